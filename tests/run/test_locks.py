"""Locks of runs that were killed are taken away, those of runs that live are respected, and jobs end with their run."""

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # Snakemake has it, without types
import pytest

from daar.run import locks

RUN = """
import sys, time
from pathlib import Path
from daar.run import locks
locks.claim(Path(sys.argv[1]), lambda line: print(line, flush=True))
print("here", flush=True)
if len(sys.argv) > 2:
    import subprocess
    job = subprocess.Popen([sys.executable, "-c", sys.argv[2]])
    print(job.pid, flush=True)
time.sleep(600)
"""
# saves until the file `saved` is there
JOB = """
import os, signal, sys, time
from daar.run import locks
def save(*_):
    while not os.path.exists("saved"):
        time.sleep(0.01)
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
locks.follow()
time.sleep(600)
"""


def start(folder: Path, *job: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, str(folder), *job]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder.parent)


def line(run: subprocess.Popen[str]) -> str:
    assert run.stdout is not None
    return run.stdout.readline().strip()


def kill(run: subprocess.Popen[str]) -> None:
    run.kill()
    run.wait()
    assert run.stdout is not None
    run.stdout.close()


def leave_lock(folder: Path) -> Path:
    """A lock file as Snakemake writes it."""
    lock = folder / "locks" / "0.output.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text("results/x.csv\n")
    return lock


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DAAR_RUN", raising=False)
    return tmp_path / ".snakemake"


def test_a_lock_whose_owner_was_killed_is_taken_away_and_said(folder: Path) -> None:
    killed = start(folder)
    assert line(killed) == "here"
    lock = leave_lock(folder)
    kill(killed)
    assert lock.exists()
    after = start(folder)
    assert "left by a run that was killed" in line(after)
    assert line(after) == "here"
    assert not lock.exists()
    kill(after)


def test_a_lock_whose_owner_lives_is_respected(folder: Path) -> None:
    living = start(folder)
    assert line(living) == "here"
    lock = leave_lock(folder)
    second = start(folder)
    assert "another run is at work in this folder" in line(second)
    assert line(second) == "here"  # Snakemake says the rest
    assert lock.exists()
    kill(living)
    third = start(folder)  # the second lives
    assert "another run is at work" in line(third)
    assert line(third) == "here"
    assert lock.exists()
    kill(second)
    kill(third)


def test_a_first_run_says_nothing(folder: Path) -> None:
    run = start(folder)
    assert line(run) == "here"
    kill(run)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


def test_a_job_ends_with_its_run_and_the_next_run_waits_for_it(folder: Path) -> None:
    run = start(folder, JOB)
    assert line(run) == "here"
    job = int(line(run))
    wait_for(lambda: str(folder / "daar-jobs.lock") in held_by(job))
    kill(run)
    after = start(folder)
    assert "still saving their state" in line(after)
    (folder.parent / "saved").touch()
    assert line(after) == "here"
    wait_for(lambda: gone(job))  # its lock goes a moment before it
    kill(after)


def held_by(pid: int) -> list[str]:
    return [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]


@pytest.mark.parametrize("told", ["", "1:0.0", "x:y:z:", "x:1.0:HERE:/tmp", "999999999:1.0:another-machine:/tmp"])
def test_a_job_of_no_run_here_follows_none(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAAR_RUN", told.replace("HERE", platform.node()))
    before = signal.getsignal(signal.SIGTERM)
    locks.follow()
    time.sleep(0.1)
    assert signal.getsignal(signal.SIGTERM) == before  # and this process lives


def test_a_job_whose_run_was_killed_while_it_was_loaded_does_nothing(folder: Path) -> None:
    run, another = start(folder), start(folder)
    created = psutil.Process(run.pid).create_time()
    kill(run)
    # by now its number may be that of another process
    for told in (f"{run.pid}:{created}", f"{another.pid}:1.0"):
        ended = follow(f"{told}:{platform.node()}:{folder}")
        assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, ""), told
    kill(another)


def test_a_job_follows_its_run_though_the_clock_was_set(folder: Path) -> None:
    assert follow(f"{os.getpid()}:1.0:{platform.node()}:{folder}").stdout == "at work\n"


def follow(told: str) -> subprocess.CompletedProcess[str]:
    job = [sys.executable, "-c", "from daar.run import locks; locks.follow(); print('at work')"]
    environment = {**os.environ, "DAAR_RUN": told}
    return subprocess.run(job, env=environment, capture_output=True, text=True, check=False)
