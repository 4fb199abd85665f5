"""Ctrl-C and SIGTERM at any moment, imports included: one line, and exit code 130 or 143.

Imported before anything else, so that it imports next to nothing itself. Training watches signals in its own way
(daar/training/interrupts.py) and puts these handlers back.
"""

import atexit
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# a library may swallow the exception, or a thread go on; a write that ends takes less
_PATIENCE_SECONDS = 10


class Stopped(BaseException):
    """A signal came; raised where the code is, so that half-written files are removed; no `Exception`."""


class _State:
    """Whose handlers they are, whether the code at work is to be unwound, and the signal that came."""

    owner = 0
    unwinds = False
    received = 0


def handle() -> None:
    """Install the handlers, but for signals that this process was told to ignore."""
    _State.owner = os.getpid()
    atexit.register(_let_it_end)  # the first that is registered is called last
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Raise `Stopped` within; what comes of it, whatever it has become on its way, ends with the signal's exit code.

    Outside, where nothing is to be tidied, a signal ends the process at once.
    """
    _State.unwinds, before = True, sys.unraisablehook
    sys.unraisablehook = _end_if_lost
    try:
        yield
    except BaseException:
        if _State.received:
            raise SystemExit(128 + _State.received) from None
        raise
    finally:
        _State.unwinds, sys.unraisablehook = False, before


def _stop(number: int, _: FrameType | None) -> None:
    if os.getpid() != _State.owner:  # a worker that was forked: its parent tells the user
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    if _State.received:  # a second one: wait no longer
        _end()
    _State.received = number
    with contextlib.suppress(OSError):
        os.write(2, b"daar: interrupted at once; the same command goes on from what was saved last.\n")
    if not _State.unwinds:
        _end()
    signal.signal(signal.SIGALRM, lambda *_: _end())
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE_SECONDS)
    raise Stopped


def _end_if_lost(lost: Any) -> None:
    """In place of "Exception ignored in …": raised in a destructor, `Stopped` would get no further."""
    if isinstance(lost.exc_value, Stopped):
        _end()
    sys.__unraisablehook__(lost)


def _let_it_end() -> None:
    """All is written: Python would put the signals' own handlers back now, and take its modules apart for a while."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    gc.freeze()  # else it looks through all of torch for garbage, which takes half a second


def _end() -> None:
    with contextlib.suppress(Exception):  # the signal may have come within a write to it
        sys.stdout.flush()
    os._exit(128 + _State.received)
