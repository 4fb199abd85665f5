"""A training job that is killed alone, or asked to make room, is tried again and goes on; a real run of one job."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.workflow.test_dag import ROOT

RECIPE = {"epochs": 3, "lr": 0.05, "batch_size": 64}
SUITE = {
    **{"suite": "tiny", "datasets": ["digits"], "networks": ["resnet20"], "methods": ["l1"]},
    **{"macs_reductions": [0.5], "seeds": [0], "train": RECIPE, "finetune": {"epochs": 1}},
}

pytestmark = pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="finds the job among /proc/*")


def trainings(folder: Path) -> list[int]:
    """Processes that run `daar train` in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder and b"-m\0daar\0train\0" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:  # gone, or another user's
            continue
    return found


def around(training: int) -> list[int]:
    """A training's process, the shell that runs it and the `tee` beside it: what a scheduler ends at one go."""
    shell = parent(training)
    assert shell is not None
    running = [int(process.name) for process in Path("/proc").glob("[0-9]*")]
    return [shell, *(pid for pid in running if parent(pid) == shell)]


def parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:  # gone
        return None


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Snakemake on its way to the dense network of seed 0."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(SUITE))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1"]
    command += ["--configfile", "tiny.yaml", "--until", "train"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    yield running
    for pid in trainings(tmp_path):
        os.kill(pid, signal.SIGKILL)
    running.kill()
    running.communicate()


def weights(folder: Path) -> tuple[str, list[float]]:
    """Hash of the weights, and the loss of every epoch."""
    curve = json.loads((folder / "model.json").read_text())["provenance"]["curve"]
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    return digest, [epoch["loss"] for epoch in curve]


def test_a_job_killed_and_then_pre_empted_is_tried_again_and_ends_bit_identical(
    tmp_path: Path, workflow: subprocess.Popen[str]
) -> None:
    signals = {"epoch 1/3": signal.SIGKILL, "epoch 2/3": signal.SIGTERM}
    said = []
    assert workflow.stdout is not None
    for line in workflow.stdout:
        said.append(line)
        for mark in [mark for mark in signals if mark in line]:
            (job,) = trainings(tmp_path)
            number = signals.pop(mark)
            for pid in around(job) if number == signal.SIGTERM else [job]:
                os.kill(pid, number)
    text = "".join(said)
    assert workflow.wait() == 0, text
    assert not signals
    assert len(re.findall("^Trying to restart job", text, re.MULTILINE)) == 2, text
    # a signal so early may be seen before the next epoch's first step
    (step,) = re.findall(
        r"SIGTERM: saved after epoch (?:2 of 3|3, step (\d+) of \d+); the same command goes on from there", text
    )
    assert "continues after epoch 2" + (f" and {step} steps from" if step else " from") in text

    (file,) = tmp_path.glob("results/dense/digits/resnet20/*/seed0/model.safetensors")
    # kill -9 in a save may leave its temporary file, which goes an hour later
    assert sorted(path.name for path in file.parent.glob("*.*") if not path.name.startswith(".")) == [
        *("model.json", "model.safetensors", "train.benchmark.tsv", "train.log")
    ]
    command = [sys.executable, "-m", "daar", "train", "--network", "resnet20", "--dataset", "digits", "--threads", "1"]
    command += ["--recipe", json.dumps(RECIPE), "--packs", "results/data", "--out", "undisturbed"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert weights(file.parent) == weights(tmp_path / "undisturbed")
