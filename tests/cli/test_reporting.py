"""Where `daar run` and `daar report` say that results are."""

from pathlib import Path

import pytest

from daar.cli.reporting import where
from daar.errors import InputError
from tests.run.test_reuse import make


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_records_of_other_settings_in_the_folder_do_not_count(tmp_path: Path) -> None:
    """An earlier version of the suite had another target, whose path is as long and comes first."""
    suite = make()
    for name in ("report.html", "tables/digits-resnet20.md", "figures/digits-resnet20-a.png", "results.csv"):
        touch(tmp_path / name)
    own = [touch(tmp_path / setting.path / "record.json") for setting in suite.settings]
    before = own[0].parent.with_name("uniform-all-0.1") / "record.json"
    assert touch(before) not in own
    records = where(suite, tmp_path).splitlines()[-1]
    more = f" and {len(own) - 1} more" if len(own) > 1 else ""
    assert records == f"records:     {min(own, key=lambda path: (len(str(path)), path))}{more}"
    for path in own:
        path.unlink()
    with pytest.raises(InputError, match="has no records yet"):
        where(suite, tmp_path)
