"""Snakemake's command, for a process of its own: a signal before its first job gives one line.

Importing it and building the DAG take seconds. From the first job on Snakemake stops its jobs, and says so, itself
(`handlers.check` puts its handlers back). Run by its path, so it imports nothing of daar.
"""

import os
import signal
import sys
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Run Snakemake with this process's arguments."""
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    from snakemake.cli import main as snakemake

    sys.argv[0] = "snakemake"
    snakemake(sys.argv[1:])


def stop(number: int, _: FrameType | None) -> None:
    """Handle a signal: nothing is to be tidied that the next run would not tidy."""
    os.write(2, b"daar: interrupted before the first job; the same command starts it again.\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
