"""`daar run`, with the real Snakemake and real jobs: what it passes on, and how it ends."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from daar.cli.main import main
from daar.suite import reading
from tests.workflow.test_dag import CONFIG, expected
from tests.workflow.test_preemption import SUITE, trainings

RUN = (sys.executable, "-m", "daar", "run")


def daar_run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_options_behind_dashes_go_to_snakemake_from_any_folder(tmp_path: Path) -> None:
    options = ("--config", "seeds=[0]", "--quiet", "rules")
    done = daar_run("demo", "-n", "--cores", "1", "--", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = expected(reading.load(CONFIG / "demo.yaml"))
    seeds = re.search(r"^train +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
    assert seeds is not None
    assert (seeds[1], jobs["train"]) == ("1", 3)
    assert "report:" not in done.stdout


def test_the_exit_code_is_snakemake_s(tmp_path: Path) -> None:
    done = daar_run("demo", "-n", "--", "--no-such-option", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_run_that_cannot_succeed_ends_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump({**SUITE, "datasets": ["cifar10"], "data_root": "nowhere"}))
    done = daar_run("suite.yaml", cwd=tmp_path)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("daar: ")]
    assert len(lines) == 1
    assert lines[0].startswith("daar: error: suite 'tiny' cannot run here")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "unknown suite 'nope'; there are: "),
        (["demo", "--cores", "0"], "--cores should be 1 or more, got 0"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run", *arguments])
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def training_log(folder: Path) -> str:
    return "".join(file.read_text() for file in (folder / "results" / "dense").rglob("train.log"))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A suite on its way, in the training of a dense network."""
    content = {**SUITE, "train": {"epochs": 200, "lr": 0.05, "batch_size": 64}}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(content))
    command = [*RUN, "suite.yaml", "--cores", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while process.poll() is None and "epoch 1/200" not in training_log(tmp_path):
        time.sleep(0.1)
    yield process
    for pid in trainings(tmp_path):
        os.kill(pid, signal.SIGKILL)
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="finds the job among /proc/*")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_jobs_saved_and_then_the_run(
    running: subprocess.Popen[str], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    assert trainings(tmp_path)
    os.kill(running.pid, number)
    out, _ = running.communicate(timeout=300)
    assert running.returncode == code, out
    assert out.splitlines()[-1].startswith("daar: interrupted after ")
    assert out.count("interrupted") == 1
    assert "Traceback" not in out
    assert f"{number.name}: saved after" in training_log(tmp_path)
    while trainings(tmp_path):  # as good as ended
        time.sleep(0.1)
    assert daar_run("suite.yaml", "-n", cwd=tmp_path).returncode == 0  # no lock is left
