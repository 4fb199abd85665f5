"""Ctrl-C and pre-emption: a signal becomes a wish, so that training can end a step and save before it goes."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(Exception):  # noqa: N818  # not an error: all is saved
    """A signal asked training to end, and it has saved its state.

    Args:
        name: of the signal: SIGTERM or SIGINT.
        where: how far it has come, for the message ("epoch 3, step 40 of 352").

    Attributes:
        exit_code: 143 or 130, as of a process that the signal ended.
    """

    def __init__(self, name: str, where: str) -> None:
        super().__init__(f"{name}: saved after {where}; the same command goes on from there")
        self.exit_code = 128 + signal.Signals[name]


@dataclass
class Stop:
    """Whether to end.

    Attributes:
        requested: the name of the signal that came; None while there was none.
    """

    requested: str | None = None


@contextlib.contextmanager
def watching() -> Iterator[Stop]:
    """Note the first SIGTERM or SIGINT; a second one acts as if nobody watched. Handlers are put back in the end.

    A signal that the process was told to ignore stays ignored. Outside the main thread nothing is watched, since Python
    handles signals only there.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    # None: the handler is none of Python's, and could not be put back
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
