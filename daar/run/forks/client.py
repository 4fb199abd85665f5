"""Hand a job over to the run's loaded process, and end as it ends.

Imported by every job before anything else.
"""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

from daar.run.forks import messages

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def hand_over(arguments: list[str]) -> int | None:
    """Have the command run by a fork of the loaded process of this job's run.

    It gets this process's standard streams, environment and working directory, and its signals.

    Args:
        arguments: of `daar`.

    Returns:
        Its exit code, below 0 the number of the signal that ended it; None if it was not taken, and is to run here:
        there is no such process, it has other code, or torchrun has started this one and watches it.
    """
    name = os.environ.get(messages.VARIABLE)
    if not name or "RANK" in os.environ:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(f"\0{name}")
        if not messages.is_own(connection):
            return None
        messages.send(connection, _job(arguments), (0, 1, 2))
        with _passing_on(connection):
            return _wait(connection)
    except OSError:  # it is gone
        return None
    finally:
        connection.close()


def end_like(code: int) -> NoReturn:
    """End this process as the job ended, be it by a signal."""
    if -code in (signal.SIGINT, signal.SIGTERM):  # before it had a handler, or with its server: it said nothing
        print("daar: interrupted at once; the same command goes on from what was saved last.", file=sys.stderr)
        sys.exit(128 - code)
    if code < 0:
        with contextlib.suppress(OSError, ValueError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _job(arguments: list[str]) -> dict[str, Any]:
    ignored = [int(number) for number in _SIGNALS if signal.getsignal(number) == signal.SIG_IGN]
    where = {"program": messages.program(), "directory": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109  # no pathlib yet
    return {"arguments": arguments, "ignored": ignored, "mask": _mask(), **where}


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def _passing_on(connection: socket.socket) -> Iterator[None]:
    """Pass signals on to the job, which is in a process group of its own, so that each comes to it once."""

    def pass_on(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(OSError):  # it has just ended
            messages.send(connection, number)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    watched = {number: old for number, old in before.items() if old != signal.SIG_IGN}
    for number in watched:
        signal.signal(number, pass_on)
    try:
        yield
    finally:
        for number, old in watched.items():
            signal.signal(number, old)


def _wait(connection: socket.socket) -> int | None:
    """The job's exit code, or None if it was refused."""
    started, _ = messages.receive(connection)
    if started is None:
        return None
    ended, _ = messages.receive(connection)
    if ended is not None:
        return int(ended)
    # the server was killed: the job sees that, and ends when it has saved; another try must not start before
    while _lives(int(started)):
        time.sleep(0.1)
    return -signal.SIGTERM


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True
