"""What a test has started does not outlive it."""

import subprocess
import sys

import psutil  # type: ignore[import-untyped]  # Snakemake has it, without types
import pytest

from tests.processes import ending

PARENT = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)
"""


def start_and_fail(started: list[tuple[subprocess.Popen[bytes], psutil.Process]]) -> None:
    with ending():
        process = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        started.append((process, psutil.Process(int(process.stdout.readline()))))
        raise AssertionError("as in a test")


def test_a_process_ends_where_an_assertion_fails_and_so_does_what_it_has_started() -> None:
    started: list[tuple[subprocess.Popen[bytes], psutil.Process]] = []
    with pytest.raises(AssertionError, match="as in a test"):
        start_and_fail(started)
    ((process, child),) = started
    assert process.returncode is not None
    assert process.stdin
    assert process.stdout
    assert process.stdin.closed
    assert process.stdout.closed
    assert not psutil.wait_procs([child], timeout=300)[1]


def test_what_has_ended_by_itself_keeps_its_exit_code() -> None:
    with ending():
        process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
        process.wait()
    assert process.returncode == 7
