"""Snakemake's command, for a process of its own: a signal before its first job gives one line.

Importing it and building the DAG take seconds. From the first job on Snakemake stops its jobs, and says so, itself
(`handlers.check` puts its handlers back). Run by its path, so it imports nothing of daar before Snakemake.
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

    _add_logger()
    sys.argv[0] = "snakemake"
    snakemake(sys.argv[1:])


def _add_logger() -> None:
    """Have `--logger daar` found: Snakemake itself sees no package of an editable install."""
    from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

    from daar.progress import plugin

    LoggerPluginRegistry().register_plugin(plugin.MODULE, plugin)


def stop(number: int, _: FrameType | None) -> None:
    """Handle a signal: nothing is to be tidied that the next run would not tidy."""
    # whatever descriptor that has: jobs may have number 2 already (daar/progress/terminal.py)
    os.write(sys.stderr.fileno(), b"daar: interrupted before the first job; the same command starts it again.\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
