"""What a real, tiny suite says while it runs."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.progress.emulator import Emulator
from tests.workflow.test_preemption import SUITE
from tests.workflow.test_run_command import RUN, daar_run


@pytest.mark.slow
def test_a_suite_says_a_line_for_each_setting_and_few_others(tmp_path: Path, emulator: Emulator) -> None:
    """The real thing, in a pipe, in a terminal, and quiet: each line is one of a kind that is known."""
    (tmp_path / "suite.yaml").write_text(
        yaml.safe_dump({**SUITE, "train": {"epochs": 1, "lr": 0.05, "batch_size": 64}})
    )
    emulator.resize(100, 24)
    done = daar_run("suite.yaml", "--cores", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    times = re.sub(r"\d+:\d\d", "0:00", re.sub(r"\[\d+/", "[n/", re.sub(r"val [\d.]+", "val x", done.stderr)))
    of = re.search(r"\[n/(\d+)", times)
    assert of is not None
    assert times.splitlines() == [
        f"daar: {of[1]} jobs to do for 1 setting",
        f"[n/{of[1]}  0:00]  digits: packed in 0:00",
        f"[n/{of[1]}  0:00]  resnet20 seed 0 dense: val x, done in 0:00",
        f"[n/{of[1]}  0:00]  resnet20 seed 0 l1 0.5: val x, done in 0:00",
        f"[n/{of[1]}  0:00]  tables, figures and page made",
        f"daar: {of[1]} of {of[1]} jobs done in 0:00",
    ]
    assert "report.html" in done.stdout
    # the report alone is made again, once in a terminal and once in silence
    for page in (tmp_path / "results").rglob("report.html"):
        page.unlink()
    subprocess.run([*RUN, "suite.yaml"], cwd=tmp_path, stdout=emulator.file, stderr=emulator.file, check=True)
    assert emulator.shows[0].startswith("daar: 2 jobs to do")
    assert any(re.fullmatch(r"daar: 2 of 2 jobs done in \d+:\d\d", line) for line in emulator.shows)
    for page in (tmp_path / "results").rglob("report.html"):
        page.unlink()
    quiet = daar_run("suite.yaml", "--quiet", cwd=tmp_path)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
