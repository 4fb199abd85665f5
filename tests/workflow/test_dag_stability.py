"""The jobs of the calibration images' ablation."""

from pathlib import Path

import yaml

from tests.stages.test_stability import SMALL
from tests.workflow.test_dag import dry_run


def test_jobs_only_where_the_suite_has_the_key(tmp_path: Path) -> None:
    content = {**SMALL, "seeds": [3, 4]}
    (tmp_path / "without.yaml").write_text(yaml.safe_dump(content))
    entry = {"images": [10, 40], "variants": ["l1", "hrank"]}
    (tmp_path / "with.yaml").write_text(yaml.safe_dump({**content, "stability": entry}))
    jobs = dry_run("--configfile", "with.yaml", cwd=tmp_path)
    assert (jobs["stability"], jobs["stability_report"], jobs["train"]) == (2, 1, 2)
    assert not {"stability", "stability_report"} & set(dry_run("--configfile", "without.yaml", cwd=tmp_path))
