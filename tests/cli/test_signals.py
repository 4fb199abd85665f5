"""Signals at any moment: from the first import on, one line and the exit code of a process that the signal ended."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LINE = "daar: interrupted at once; the same command goes on from what was saved last.\n"
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def is_caught(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Whether a process has a handler of its own: Linux tells."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = re.search(r"SigCgt:\s*([0-9a-f]+)", status)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


def stopped(arguments: list[str], number: signal.Signals, seconds: float) -> tuple[int, str]:
    """Exit code and errors of a command that gets a signal so long after its handlers were there."""
    command = [sys.executable, "-m", "daar", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not is_caught(process, signal.SIGTERM):
            time.sleep(0.002)
        time.sleep(seconds)
        process.send_signal(number)
        _, errors = process.communicate(timeout=300)
    return process.returncode, errors


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux when the handlers are there")
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.4, 1.0])
def test_a_signal_at_any_moment(number: signal.Signals, seconds: float) -> None:
    code, errors = stopped(["describe", "densenet40"], number, seconds)
    # it may have ended before
    assert (code, errors) in ((128 + number, LINE), (0, ""))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux when the handlers are there")
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_at_any_moment_of_pruning(number: signal.Signals, dense: Path, digits: Path, tmp_path: Path) -> None:
    for step in range(31):
        out = tmp_path / str(step)
        command = f"prune {dense} --method l1 --macs-reduction 0.5 --images 64 --out {out}".split()
        command += ["--dataset", digits.name, "--packs", str(digits.parent)]
        code, errors = stopped(command, number, step / 10)
        assert (code, errors) in ((128 + number, LINE), (0, "")), step
        assert not list(out.glob(".*")), step


def test_an_ignored_signal_stays_ignored() -> None:
    ignoring = "import signal, runpy; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    ignoring += "from daar.cli import signals; signals.handle(); print(signal.getsignal(signal.SIGINT).name)"
    said = subprocess.run([sys.executable, "-c", ignoring], capture_output=True, text=True, check=True)
    assert said.stdout == "SIG_IGN\n"


def test_what_the_signal_became_on_its_way_still_ends_with_its_code() -> None:
    swallowing = """
import os, signal
from daar.cli import signals
signals.handle()
with signals.unwinding():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException as error:
        raise ImportError("numpy failed to import") from error
"""
    ended = subprocess.run([sys.executable, "-c", swallowing], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (143, LINE)


def test_lost_in_a_destructor_it_still_ends_the_process() -> None:
    losing = """
import os, signal, time
from daar.cli import signals

class Lost:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)

signals.handle()
with signals.unwinding():
    Lost()
    time.sleep(60)
"""
    ended = subprocess.run([sys.executable, "-c", losing], capture_output=True, text=True, check=False, timeout=300)
    assert (ended.returncode, ended.stderr) == (130, LINE)


def test_a_signal_while_python_takes_its_modules_apart_changes_nothing() -> None:
    late = """
import os, signal
from daar.cli import signals

class Last:
    def __del__(self, kill=os.kill, me=os.getpid(), number=signal.SIGTERM):
        kill(me, number)

signals.handle()
last = Last()
print("written")
"""
    ended = subprocess.run([sys.executable, "-c", late], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "written\n", "")
