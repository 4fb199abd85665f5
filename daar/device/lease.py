"""A GPU for each job: taken by a lock of the operating system, so that two jobs never share one unasked.

Such a lock holds across runs of Snakemake and dies with its process, also by kill -9. Every GPU has a gate and slots,
all of them empty files in a folder of the user's. A job that wants a GPU for itself holds the gate alone; one that
shares holds it together with others, and one slot for itself. So whoever does not ask for company has none, whatever
another run asks for; and nobody holds anything while waiting, so that there is no deadlock.
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

# GPU → what holds its locks, for as long as this process lives
_held: dict[str, contextlib.ExitStack] = {}


def take(gpus: Sequence[str], slots: int = 1) -> int:
    """Take one of some GPUs for the rest of this process; waits, and says so once, while none is free.

    Empty ones come first, then those with a lower slot free. A process that has one gets the same again.

    Args:
        gpus: what tells them apart on this machine, whatever CUDA_VISIBLE_DEVICES numbers them: their UUIDs.
        slots: how many jobs may share a GPU; 1 takes it for this job alone.

    Returns:
        The index in `gpus`.

    Raises:
        InputError: the folder of the locks cannot be written.
    """
    if fcntl is None:
        print("daar: this system has no file locks: GPUs are not kept apart. Run one job at a time.", file=sys.stderr)
        return 0
    said = False
    while (index := _take_free(gpus, slots)) is None:
        if not said:
            what = "the GPU is" if len(gpus) == 1 else f"all {len(gpus)} GPUs are"
            print(f"daar: {what} taken by other jobs (locks in {folder()}); waiting", file=sys.stderr, flush=True)
        said = True
        time.sleep(POLL_SECONDS)
    return index


def folder() -> Path:
    """Where the locks lie: the same for a user's every process, so neither in TMPDIR nor in XDG_RUNTIME_DIR.

    Snakemake may give its jobs a TMPDIR of their own, and the other goes at log-out, under jobs that stay.
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
            # found empty: now let others in. Whoever is faster in between has it
            if opened and (slots == 1 or gate == shared or _try(opened, shared)):
                _held[gpus[index]] = locks.pop_all()
                return index
    return None


def _lock(path: Path, how: int, locks: contextlib.ExitStack) -> int | None:
    """A descriptor that holds the lock until `locks` is closed; None where another process has it."""
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        locks.callback(os.close, file)
        os.utime(file)  # else what cleans the folder of old files might take it while it is held
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
