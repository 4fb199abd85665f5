"""Memory that a step frees stays with the process for the next one.

Each step needs the same tensors of megabytes. The GNU C library hands such memory back to the system when it is freed
and asks for it again, which costs thousands of page faults a step; the peak is the same either way.
"""

import contextlib
import ctypes
import functools
from collections.abc import Iterator

import torch

_MIB = 1 << 20
# mallopt's numbers in malloc.h, and (within a training, after it); afterwards where glibc's own rule ends, which
# raises both limits as blocks are freed until mallopt is called
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LIMITS = {_TRIM_THRESHOLD: (2047 * _MIB, 64 * _MIB), _MMAP_THRESHOLD: (1024 * _MIB, 32 * _MIB)}


@contextlib.contextmanager
def kept(device: torch.device) -> Iterator[None]:
    """Keep freed memory for later use while a network trains on the CPU; then give it back.

    Does nothing on other devices and under other C libraries.
    """
    libc = _glibc() if device.type == "cpu" else None
    if libc is None:
        yield
        return
    try:
        _limit(libc, 0)
        yield
    finally:
        _limit(libc, 1)
        libc.malloc_trim(0)


def _limit(libc: ctypes.CDLL, when: int) -> None:
    for option, sizes in _LIMITS.items():
        libc.mallopt(option, sizes[when])


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has no library of that name
        return None
    return libc if hasattr(libc, "gnu_get_libc_version") else None
