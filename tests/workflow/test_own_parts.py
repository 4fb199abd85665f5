"""A whole suite in an empty folder, with a network and images of one's own; and what an edit of either makes again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from daar.storage.bundled import PACKAGE
from tests.data.own.folders import fill, picture
from tests.suite.test_own_parts import NETWORK

SUITE = """
suite: mine
datasets: {pets: {folder: images, size: 8, title: My pets}}
networks_dirs: [networks]
networks: [small]
methods: [l1]
macs_reductions: [0.5]
seeds: [0]
calibration_images: 16
train: {epochs: 1, batch_size: 16}
finetune: {epochs: 1, batch_size: 16}
"""


def daar(folder: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-P", "-m", "daar", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_from_an_empty_folder_to_the_page(tmp_path: Path) -> None:
    fill(tmp_path / "images", {"a": 30, "b": 30})
    (tmp_path / "networks").mkdir()
    file = tmp_path / "networks" / "small.py"
    file.write_text(NETWORK)
    (tmp_path / "suite.yaml").write_text(SUITE)
    daar(tmp_path, "run", "suite.yaml", "--cores", "2")
    results = tmp_path / "results" / "mine"
    assert (results / "report.html").is_file()
    assert "small on My pets" in (results / "tables" / "pets-small.md").read_text()

    def would_run() -> str:
        return daar(tmp_path, "run", "suite.yaml", "-n", "--cores", "2")

    assert "Nothing to be done" in would_run()
    file.write_text(f"# a comment\n{NETWORK}")
    assert "Nothing to be done" in would_run()
    file.write_text(NETWORK.replace("ReLU", "GELU"))
    assert "rule train" in would_run()
    assert "rule pack_own" not in would_run()
    file.write_text(NETWORK)
    picture(999).save(tmp_path / "images" / "a" / "new.png")
    assert "rule pack_own" in would_run()
    daar(tmp_path, "run", "suite.yaml", "--cores", "2")
    record = next(results.glob("pets/small/*/*/*/record.json"))
    again = daar(tmp_path, "reproduce", str(record), "--trust", "--cores", "2")
    assert "differs" not in again
