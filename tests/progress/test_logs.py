"""What is read of a job's log is what stages write there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from daar.progress import logs
from daar.training import engine
from daar.training.interrupts import Interrupted
from daar.training.progress import Epoch, duration


@pytest.mark.parametrize("seconds", [0.0, 42.4, 200.0, 18_720.0])
def test_the_epoch_that_a_training_prints_is_read_back(tmp_path: Path, seconds: float) -> None:
    """The training loop itself writes the line, for an epoch that took as long as the two that are left will."""
    log = tmp_path / "train.log"
    curve = [Epoch(8, 0.1, 0.5, 81.25, 79.5, seconds / 2)]
    log.write_text(f"resnet20 seed 0 dense: cpu\nresnet20 seed 0 dense: {engine._line(curve, 10)}\nslim network\n")
    os.utime(log, (1000, 1000))
    read = logs.last_epoch(str(log))
    assert read is not None
    assert (read.number, read.of, read.val) == (8, 10, "79.50")
    assert duration(read.ends - 1000) == duration(seconds)


def test_the_last_of_many_epochs_counts_and_no_more_than_the_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    line = "epoch {}/900  lr 0.1  loss 1.0  train 1.00  val 2.00  1.0 s  ETA 10 s"
    log.write_text("\n".join(map(line.format, range(1, 900))))
    assert (epoch := logs.last_epoch(str(log))) is not None
    assert epoch.number == 899


def test_a_log_that_tells_nothing(tmp_path: Path) -> None:
    absent, log = str(tmp_path / "absent"), tmp_path / "log"
    assert (logs.last_epoch(absent), logs.last_line(absent)) == (None, logs.LastLine("", 0.0))
    assert not logs.last_line(absent)
    log.write_bytes(b"")
    assert (logs.last_epoch(str(log)), logs.last_line(str(log)).text) == (None, "")
    log.write_bytes(b"caf\xe9 \n \n")
    assert logs.last_line(str(log)).text == "caf\\xe9 "


def test_last_words_after_a_signal_are_told_from_failures() -> None:
    code = "import os, signal; from daar.cli import signals; signals.handle(); os.kill(os.getpid(), signal.SIGTERM)"
    at_once = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr
    assert logs.was_interrupted(at_once)
    assert logs.was_interrupted(f"daar: {Interrupted('SIGINT', 'epoch 1 of 50')}.")
    assert not logs.was_interrupted("daar: error: the loss is nan")
    assert not logs.was_interrupted("epoch 1/2: SIGINT")
