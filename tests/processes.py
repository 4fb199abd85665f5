"""Processes that tests start, and that end with them."""

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Any

import psutil  # type: ignore[import-untyped]  # Snakemake has it, without types
import pytest


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """End what is started within, also where an assertion fails.

    A process left running would be found by the garbage collector, which warns of it in the midst of another test.
    """
    started: list[subprocess.Popen[Any]] = []
    start = subprocess.Popen.__init__

    def remember(process: subprocess.Popen[Any], *arguments: Any, **options: Any) -> None:
        start(process, *arguments, **options)
        started.append(process)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", remember)
        try:
            yield
        finally:
            for process in reversed(started):
                end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a process and those that it has started, if it still runs; close its pipes."""
    if process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for descendant in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    descendant.kill()
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # something was still to be written
                pipe.close()
