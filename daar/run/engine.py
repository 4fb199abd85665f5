"""Snakemake's command, for a process of its own: a signal before its first job gives one line.

Importing it and building the DAG take seconds. From the first job on Snakemake stops its jobs, and says so, itself
(`handlers.check` puts its handlers back). Run by its path, so it imports nothing of daar before Snakemake.
"""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Run Snakemake with this process's arguments."""
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    from snakemake import cli

    _add_logger()
    if hasattr(cli, "parse_args"):
        cli.parse_args = _silent(cli.parse_args)
    sys.argv[0] = "snakemake"
    cli.main(sys.argv[1:])


def _add_logger() -> None:
    """Have `--logger daar` found: Snakemake itself sees no package of an editable install."""
    from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

    import snakemake_logger_plugin_daar as plugin

    LoggerPluginRegistry().register_plugin(plugin.MODULE, plugin)


def _silent(parse: Callable[..., Any]) -> Callable[..., Any]:
    """Parse Snakemake's options without saying that it uses the profile next to the Snakefile, as it always does."""

    def parsed(*arguments: Any) -> Any:
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                return parse(*arguments)
        finally:
            lines = said.getvalue().splitlines(keepends=True)
            sys.stderr.write("".join(line for line in lines if not line.startswith("Using workflow specific profile")))

    return parsed


def stop(number: int, _: FrameType | None) -> None:
    """Handle a signal: nothing is to be tidied that the next run would not tidy."""
    # whatever descriptor that has: jobs may have number 2 already (daar/progress/terminal.py)
    os.write(sys.stderr.fileno(), b"daar: interrupted before the first job; the same command starts it again.\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
