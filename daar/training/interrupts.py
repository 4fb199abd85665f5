"""Ctrl-C and pre-emption: a signal sets a flag, so that training can finish the step and save before it ends."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

RESULT_NEUTRAL = "says when a run ends early, and it continues from there"
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(Exception):  # noqa: N818  # not an error: all is saved
    """A signal asked training to end, and it has saved its state.

    Args:
        name: of the signal: SIGTERM or SIGINT.
        where: how far training has come, for the message ("epoch 3, step 40 of 352").

    Attributes:
        exit_code: 143 or 130, as of a process that the signal ended.
    """

    def __init__(self, name: str, where: str) -> None:
        super().__init__(f"{name}: saved after {where}; the same command goes on from there")
        self.exit_code = 128 + signal.Signals[name]


@dataclass
class Stop:
    """Whether a signal asked training to end.

    Attributes:
        requested: name of the signal; None as long as none came.
    """

    requested: str | None = None


@contextlib.contextmanager
def watching() -> Iterator[Stop]:
    """Set the flag on the first SIGTERM or SIGINT; a second one gets the old handler, which is put back in the end.

    A signal that the process ignores stays ignored. Outside the main thread nothing is watched, since Python handles
    signals only there.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    # None: the handler was not installed from Python, and could not be put back
    watched = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}

    def put_back() -> None:
        for number, old in watched.items():
            signal.signal(number, old)

    def note(number: int, _: FrameType | None) -> None:
        stop.requested = signal.Signals(number).name
        put_back()

    for number in watched:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        put_back()
