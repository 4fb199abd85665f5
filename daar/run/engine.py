"""Snakemake's command, for a process of its own: a signal while it is imported, which takes seconds, gives one line.

Once it has begun, Snakemake says itself that it was stopped. Run by its path, so it imports nothing of daar.
"""

import os
import signal
import sys
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Run Snakemake with this process's arguments."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    watched = [number for number, old in before.items() if old != signal.SIG_IGN]
    for number in watched:
        signal.signal(number, _stop)
    from snakemake.cli import main as snakemake

    for number in watched:
        signal.signal(number, before[number])
    sys.argv[0] = "snakemake"
    snakemake(sys.argv[1:])


def _stop(number: int, _: FrameType | None) -> None:
    os.write(2, b"daar: interrupted before the first job; the same command starts it again.\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
