"""Values just beyond the edge are refused in one line, whatever file they come from."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from daar.errors import InputError
from daar.suite import reading
from tests.suite.edges import SMALL, WRONG, wrong


def test_the_suite_that_is_changed_here_is_one(tmp_path: Path) -> None:
    assert reading.from_config(SMALL, "here").name == "edge"


@pytest.mark.parametrize(("key", "value"), WRONG, ids=lambda part: repr(part)[:60].encode("unicode_escape").decode())
def test_what_is_beyond_is_refused_in_one_line(tmp_path: Path, key: str, value: Any) -> None:
    content, file = wrong(SMALL, key, value), tmp_path / "s.yaml"
    with pytest.raises(InputError) as error:
        reading.from_config(content, "here")
    said = str(error.value)
    assert len(said.splitlines()) == 1
    assert len(said) < 1000
    file.write_text(yaml.safe_dump(content, allow_unicode=True))
    with pytest.raises(InputError):
        reading.load(file)


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    for name in ("1", "on", "~", "1.5", "2024-01-01"):
        file.write_text(f"{yaml.safe_dump(SMALL)}variants:\n  {name}: {{method: random}}\n")
        with pytest.raises(InputError, match="put it in quotes"):
            reading.load(file)
    with pytest.raises(InputError, match="a key that is no text but 1"):
        reading.from_config({**SMALL, "variants": {1: {"method": "random"}}}, "here")


def test_too_many_settings_are_counted_and_not_made() -> None:
    many = {"seeds": list(range(1000)), "macs_reductions": [target / 1001 for target in range(1, 1001)]}
    with pytest.raises(InputError, match=r"here: 2,000,000 settings .* but a suite has 10,000 at most"):
        reading.from_config({**SMALL, **many}, "here")
    most = reading.from_config(
        {**SMALL, "seeds": list(range(1000)), "macs_reductions": [0.1, 0.2, 0.3, 0.4, 0.5]}, "here"
    )
    assert most.setting_count == len(most.settings) == 10_000


def test_settings_are_counted_as_they_are_made() -> None:
    controls = {"r": {"random_at": "l1"}, "own": {"method": "l1", "policy": "adaptive"}, "s": {"scratch_of": "own"}}
    for changes in ({}, {"policies": ["uniform", "adaptive"]}, {"networks": ["resnet20", "resnet56"], "seeds": [0, 7]}):
        made = reading.from_config({**SMALL, "variants": controls, **changes}, "here")
        assert made.setting_count == len(made.settings)
