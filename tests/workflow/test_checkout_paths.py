"""The workflow runs wherever its checkout lies."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.suite.edges import SMALL
from tests.workflow.test_dag import ROOT, snakemake

NEEDED = ("Snakefile", "environment.yml", "daar", "baselines", "workflow")


@pytest.mark.parametrize("name", ["{x} {seed} {{y}}", 'o\'brien "data" %s $HOME;é'])
def test_a_checkout_may_lie_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    for part in NEEDED:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        root.mkdir(exist_ok=True)
        copy(ROOT / part, root / part)
    suite = tmp_path / "suite.yaml"
    suite.write_text(yaml.safe_dump(SMALL))
    done = snakemake("--until", "suite", "--configfile", str(suite), cwd=root, root=root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((root / "results" / "edge" / "suite.json").read_text()) == SMALL
    assert {path.name for path in tmp_path.iterdir()} == {name, "suite.yaml"}
