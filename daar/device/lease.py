"""One GPU for each job, by file locks of the operating system, so that jobs share a GPU only if all of them allow it.

Such a lock holds across runs of Snakemake and ends with its process, also after kill -9. Every GPU has a gate and
slots, all of them empty files in a folder of the user. A job that wants a GPU for itself holds the gate exclusively;
one that shares holds the gate shared, and one slot exclusively. So a job that does not share is alone, whatever other
runs ask for. A job holds nothing while it waits, so there is no deadlock.
"""

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from daar.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

POLL_SECONDS = 0.2

# GPU → its locks, held as long as this process lives
_held: dict[str, contextlib.ExitStack] = {}


def take(gpus: Sequence[str], slots: int = 1) -> int:
    """Take one of `gpus` until this process ends; waits while none is free, and prints that once.

    Empty GPUs come first, then those with a lower slot free. A process that has one gets the same again.

    Args:
        gpus: their UUIDs, since CUDA_VISIBLE_DEVICES changes their numbers.
        slots: how many jobs may share a GPU; 1 takes it for this job alone.

    Returns:
        The index in `gpus`.

    Raises:
        InputError: the folder of the locks is not writable.
    """
    if fcntl is None:
        print("daar: this system has no file locks: GPUs are not kept apart. Run one job at a time.", file=sys.stderr)
        return 0
    waiting = False
    while (index := _take_free(gpus, slots)) is None:
        if not waiting:
            what = "the GPU is" if len(gpus) == 1 else f"all {len(gpus)} GPUs are"
            print(f"daar: {what} taken by other jobs (locks in {folder()}); waiting", file=sys.stderr, flush=True)
        waiting = True
        time.sleep(POLL_SECONDS)
    return index


def folder() -> Path:
    """The folder of the locks, the same for all processes of a user: neither in TMPDIR nor in XDG_RUNTIME_DIR.

    Snakemake may give each job a TMPDIR of its own, and XDG_RUNTIME_DIR is deleted at log-out while jobs still run.
    """
    return Path(os.environ.get("DAAR_LOCKS") or f"/tmp/daar-{os.getuid()}")


def _take_free(gpus: Sequence[str], slots: int) -> int | None:
    for index, gpu in enumerate(gpus):
        if gpu in _held:
            return index
    alone, shared = fcntl.LOCK_EX, fcntl.LOCK_SH
    sharing = range(slots if slots > 1 else 0)
    empty = [(index, 0, alone) for index in range(len(gpus))]
    for index, slot, gate in empty + [(index, slot, shared) for slot in sharing for index in range(len(gpus))]:
        path = folder() / gpus[index]
        with contextlib.ExitStack() as locks:
            if not _lock(path.with_name(f"{path.name}.slot{slot}"), alone, locks):
                continue
            opened = _lock(path.with_name(f"{path.name}.gate"), gate, locks)
            # the GPU is empty: now share the gate; another job may be faster in between and take it
            if opened and (slots == 1 or gate == shared or _try(opened, shared)):
                _held[gpus[index]] = locks.pop_all()
                return index
    return None


def _lock(path: Path, how: int, locks: contextlib.ExitStack) -> int | None:
    """A file descriptor that holds the lock until `locks` is closed; None if another process has the lock."""
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        locks.callback(os.close, file)
        os.utime(file)  # otherwise a cleaner of old temporary files might delete it while it is held
        return file if _try(file, how) else None
    except OSError as error:
        raise InputError(
            f"cannot lock {path}, which keeps GPUs apart: {error.strerror}. "
            "Set DAAR_LOCKS to a folder of this machine that you can write."
        ) from error


def _try(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
