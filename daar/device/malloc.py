"""Keep memory that a step frees in the process, for the next step.

Each step needs the same tensors of megabytes. The GNU C library returns such memory to the system when it is freed and
asks for it again, which costs thousands of page faults per step; the peak is the same either way.
"""

import contextlib
import ctypes
import functools
from collections.abc import Iterator

import torch

_MIB = 1 << 20
# Option numbers of mallopt in malloc.h, and the values (meanwhile, afterwards). Those afterwards are the largest
# that glibc's own rule reaches: it raises both limits as blocks are freed, until mallopt is called.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LIMITS = {_TRIM_THRESHOLD: (2047 * _MIB, 64 * _MIB), _MMAP_THRESHOLD: (1024 * _MIB, 32 * _MIB)}


@contextlib.contextmanager
def retain_freed_memory(device: torch.device) -> Iterator[None]:
    """Keep freed memory in the process during work with a network on the CPU; then return it to the system.

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
    except (OSError, TypeError):  # Windows has no such library
        return None
    return libc if hasattr(libc, "gnu_get_libc_version") else None
