"""What takes seconds to make and is only read: made by one of pytest-xdist's processes, for all of them."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(name: str, make: Callable[[Path], object], temporary: pytest.TempPathFactory) -> Path:
    """A folder of a test session, filled by the first process that asks for it; others wait until it is.

    Args:
        name: of the folder.
        make: fills the folder, which is there and empty.
        temporary: of pytest; its processes have folders next to each other.
    """
    base = temporary.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, made = base / "shared" / name, base / "shared" / f"{name}.made"
    folder.mkdir(parents=True, exist_ok=True)
    with (base / "shared" / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            make(folder)
            made.touch()
    return folder
