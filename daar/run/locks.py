"""Who runs here: a lock of Snakemake whose owner is gone is taken away, one whose owner lives is respected.

Snakemake's lock is a file, which a killed process leaves. An advisory lock (flock) ends with its process, however that
ends.

Imported while the DAG is built, and by every stage: no torch.
"""

import contextlib
import fcntl
import os
import platform
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # Snakemake has it, without types

# what a run tells its jobs: its process, its machine, the folder of its locks
_VARIABLE = "DAAR_RUN"
# what `daar run` tells Snakemake: the end of a pipe that is closed when `daar run` ends, however that ends
STARTER = "DAAR_STARTER"
_RUNS, _JOBS = "daar-runs.lock", "daar-jobs.lock"
_EVERY_SECONDS = 1.0
# by which the start of one process is told differently when the clock is set
_CLOCK_SECONDS = 2.0
# file descriptors whose locks are held to the end of the process
_held: list[int] = []
# processes other than the run that this one ends with
_needed: list[int] = []


def claim(folder: Path, say: Callable[[str], None]) -> None:
    """Say that this process runs here, and take away what killed ones have left.

    Waits for jobs of a killed run, which end by themselves once they see that it is gone (`follow`).

    Args:
        folder: `.snakemake` of the working directory.
        say: gets a line for each thing that is done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    runs = _open(folder / _RUNS)
    if _lock(runs, fcntl.LOCK_EX | fcntl.LOCK_NB):  # no run lives here
        _wait_for_jobs(folder, say)
        if left := [path for path in (folder / "locks").glob("*.lock") if path.is_file()]:
            shutil.rmtree(folder / "locks", ignore_errors=True)
            say(f"{len(left)} locks were left by a run that was killed; they are taken away, and it goes on")
    elif any((folder / "locks").glob("*.lock")):
        say(
            "another run is at work in this folder; where both make the same files, this one is refused until that one "
            "has ended. Do not give --unlock before"
        )
    _lock(runs, fcntl.LOCK_SH)
    _held.append(runs)
    me = psutil.Process()
    os.environ[_VARIABLE] = f"{me.pid}:{me.create_time()}:{platform.node()}:{folder.absolute()}"


def end_with_starter() -> None:
    """If `daar run` has started this process: end at once when that was killed; jobs see it and save their state."""
    pipe = os.environ.pop(STARTER, "")
    if pipe.isdecimal():
        threading.Thread(target=_end_after, args=(int(pipe),), daemon=True).start()


def _end_after(pipe: int) -> None:
    os.read(pipe, 1)  # nothing is ever written
    os.kill(os.getpid(), signal.SIGKILL)


def disclaim() -> None:
    """Have jobs follow no run: that of the environment is on another machine."""
    os.environ.pop(_VARIABLE, None)


def depend_on(parent: int) -> None:
    """Have `follow` end this process also when its parent was killed, which tells a run how its jobs ended."""
    _needed.append(parent)


def follow() -> None:
    """If this process is a job of a run: hold the jobs' lock, and end as by SIGTERM when the run was killed.

    At once where that was before this process had loaded: the next run cannot have seen its lock.
    """
    told = os.environ.get(_VARIABLE, "").split(":", 3)
    if len(told) != 4 or not told[0].isdecimal() or told[2] != platform.node():  # of another machine
        return
    if not (run := _running(int(told[0]), told[1])):
        os.kill(os.getpid(), signal.SIGTERM)
        return
    with contextlib.suppress(OSError):  # the folder is gone, or read-only
        jobs = _open(Path(told[3]) / _JOBS)
        _lock(jobs, fcntl.LOCK_SH)
        _held.append(jobs)
    threading.Thread(target=_end_with, args=(run,), daemon=True).start()


def _wait_for_jobs(folder: Path, say: Callable[[str], None]) -> None:
    jobs = _open(folder / _JOBS)
    try:
        if not _lock(jobs, fcntl.LOCK_EX | fcntl.LOCK_NB):
            say("jobs of a run that was killed are still saving their state; it goes on when they have ended")
            _lock(jobs, fcntl.LOCK_EX)
    finally:
        os.close(jobs)


def _end_with(run: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        while run.is_running() and run.status() != psutil.STATUS_ZOMBIE and _needed in ([], [os.getppid()]):
            time.sleep(_EVERY_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def _running(pid: int, created: str) -> psutil.Process | None:
    """The process, if it is that one and not a later one of its number."""
    with contextlib.suppress(psutil.Error, ValueError, OverflowError):
        process = psutil.Process(pid)
        # a clock that was set moves the times at which all processes seem to have started
        if process in psutil.Process().parents() or abs(process.create_time() - float(created)) < _CLOCK_SECONDS:
            return process
    return None


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _lock(file: int, kind: int) -> bool:
    """Whether it was had; also where the file system has no such locks, which then say nothing."""
    try:
        fcntl.flock(file, kind)
    except BlockingIOError:
        return False
    except OSError:
        return not kind & fcntl.LOCK_EX
    return True
