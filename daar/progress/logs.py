"""What a job's log says now: the epoch of a training, and why a job ended."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

# an epoch's line (daar/training/engine.py)
_EPOCH = re.compile(r"epoch (\d+)/(\d+)  .*  val ([\d.]+)  .*  ETA (.+)$")
_UNITS = {"s": 1, "min": 60, "h": 3600}
# a stage's last words after a signal (daar/training/interrupts.py, daar/cli/signals.py)
_INTERRUPTED = re.compile(r"daar: (SIG[A-Z]+:|interrupted)")
# more than an epoch's line, or the line of an error, has
_TAIL = 8_192


@dataclass(frozen=True)
class Epoch:
    """How far a training is.

    Attributes:
        number: epochs that are done.
        of: epochs in all.
        val: top-1 accuracy of the validation images, in %, as it was printed.
        ends: when it is expected to end, in seconds since 1970.
    """

    number: int
    of: int
    val: str
    ends: float


def last_epoch(log: str) -> Epoch | None:
    """The last epoch that a log tells of; None where it tells of none, or is absent."""
    for line in reversed(_tail(log)):
        if found := _EPOCH.search(line):
            number, of, val, left = found.groups()
            return Epoch(int(number), int(of), val, _written(log) + _seconds(left))
    return None


@dataclass(frozen=True)
class LastLine:
    """The last line of a log, and when it was written to, in seconds since 1970; true if there is one."""

    text: str
    written: float

    def __bool__(self) -> bool:
        return bool(self.text)


def last_line(log: str) -> LastLine:
    """The last line of a log that is not empty; empty where there is none."""
    return LastLine(next((line for line in reversed(_tail(log)) if line.strip()), ""), _written(log))


def was_interrupted(line: str) -> bool:
    """Whether this is how a stage ends that got a signal, in place of a failure."""
    return _INTERRUPTED.match(line) is not None


def _tail(log: str) -> list[str]:
    """Its last lines, whatever program wrote it, in whatever encoding."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            return file.read(_TAIL).decode("utf-8", "backslashreplace").splitlines()
    except OSError:  # not there yet
        return []


def _written(log: str) -> float:
    try:
        return Path(log).stat().st_mtime
    except OSError:
        return 0.0


def _seconds(duration: str) -> float:
    """Seconds of "3 min 20 s"."""
    words = duration.split()
    return float(sum(int(count) * _UNITS.get(unit, 0) for count, unit in zip(words[::2], words[1::2], strict=False)))
