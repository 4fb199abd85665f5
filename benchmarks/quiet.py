"""Detect other programs on the processor; windows that they disturb are repeated."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

PROC = Path("/proc")
# share of one core that other programs may use: an idle system has its daemons
TOLERATED = 0.1
SAMPLE_SECONDS = 1.0


class Quiet:
    """Waits until other programs are idle. Only Linux tells; on other systems it does not wait.

    Args:
        patience: seconds to wait in all; afterwards every window counts, disturbed or not.
        others: returns the processor seconds that others have used so far, or None if unknown.
        clock: returns seconds.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        patience: float,
        others: Callable[[], float | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._left, self._others, self._clock, self._sleep = patience, others or seconds_of_others, clock, sleep
        self._start: tuple[float, float | None] = (0.0, None)

    def wait(self) -> None:
        """Return when others are idle or patience is used up; their processor time is counted from here on."""
        self._mark()
        while self._left > 0:
            self._sleep(SAMPLE_SECONDS)
            if not self.disturbed():
                break
            self._mark()
        self._mark()

    def disturbed(self) -> bool:
        """Whether others were running since `wait`, and patience is left to repeat the window."""
        started, before = self._start
        seconds, after = self._clock() - started, self._others()
        if self._left <= 0 or before is None or after is None or after - before <= TOLERATED * seconds:
            return False
        self._left -= seconds
        return True

    def _mark(self) -> None:
        self._start = self._clock(), self._others()


def seconds_of_others() -> float | None:
    """Processor seconds used by the whole machine so far, without those of this process and its children."""
    try:
        line = (PROC / "stat").read_text(encoding="ascii").splitlines()[0]
        ours = sum(_seconds_of(child.pid) for child in multiprocessing.active_children() if child.pid)
    except (OSError, IndexError):
        return None
    # user, nice, system, idle, iowait, irq, softirq, steal (proc_stat(5))
    ticks = [int(value) for value in line.split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / _ticks_per_second() - sum(os.times()[:4]) - ours


def _seconds_of(process: int) -> float:
    """Processor seconds of a running child: utime and stime (proc_pid_stat(5)), after the name in brackets."""
    fields = (PROC / str(process) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _ticks_per_second()


def _ticks_per_second() -> int:
    return os.sysconf("SC_CLK_TCK")
