"""Signals become a wish to end; processes of their own, since a signal goes to a whole process."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from daar.training import interrupts

Start = Callable[..., subprocess.Popen[str]]
NAMES = ("SIGTERM", "SIGINT")

# works in steps and saves when asked, or is stuck in one
JOB = """
import sys, time
from daar.cli import main, views
from daar.training import interrupts

def work(a):
    with interrupts.watching() as stop:
        print("working", flush=True)
        while not stop.requested:
            time.sleep(0.01)
        if sys.argv[1] == "stuck":
            print("stuck", flush=True)
            time.sleep(600)
        raise interrupts.Interrupted(stop.requested, "epoch 3, step 40 of 352")

views.list_names = work
main.main(["list", "methods"])
"""


@pytest.fixture
def job() -> Iterator[Start]:
    """Starts such a job; none outlives the test, whatever comes of it."""
    started = []

    def start(kind: str, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", JOB, kind]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        return process

    yield start
    for process in started:
        process.kill()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        process.wait()


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_ends_in_one_line_and_the_shell_s_code_for_it(job: Start, name: str, code: int) -> None:
    process = job("willing")
    process.send_signal(signal.Signals[name])
    said = process.communicate(timeout=300)[1]
    assert process.returncode == code
    assert said == f"daar: {name}: saved after epoch 3, step 40 of 352; the same command goes on from there.\n"


@pytest.mark.parametrize("first", NAMES)
@pytest.mark.parametrize("second", NAMES)
def test_a_second_signal_stops_at_once(job: Start, first: str, second: str) -> None:
    process = job("stuck")
    process.send_signal(signal.Signals[first])
    assert process.stdout is not None
    assert process.stdout.readline() == "stuck\n"
    process.send_signal(signal.Signals[second])
    said = process.communicate(timeout=300)[1]
    if second == "SIGTERM":
        assert process.returncode == -signal.SIGTERM
    else:
        assert process.returncode == 130
        assert said.startswith("daar: interrupted")


def test_the_last_line_survives_its_reader(job: Start) -> None:
    """Ctrl-C ends `tee` as well, and with it the pipe that the line goes to."""
    process = job("willing")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=300) == 143


def test_an_ignored_signal_stays_ignored(job: Start) -> None:
    """As under nohup, or in the background of a shell script."""
    process = job("willing", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=300)[1].startswith("daar: SIGTERM: saved")


@pytest.mark.parametrize("name", NAMES)
def test_handlers_are_put_back(name: str) -> None:
    heard: list[int] = []
    number = signal.Signals[name]
    before = signal.signal(number, lambda heard_number, _: heard.append(heard_number))
    try:
        mine = signal.getsignal(number)
        with interrupts.watching() as stop:
            assert stop.requested is None
            os.kill(os.getpid(), number)
            assert stop.requested == name
            assert not heard
            os.kill(os.getpid(), number)
            assert heard == [number]
        assert signal.getsignal(number) is mine
        with pytest.raises(ValueError, match="inside"), interrupts.watching():
            raise ValueError("inside")
        assert signal.getsignal(number) is mine
    finally:
        signal.signal(number, before)


def test_another_thread_watches_nothing() -> None:
    before = [signal.getsignal(signal.Signals[name]) for name in NAMES]
    noted: list[Any] = []

    def work() -> None:
        with interrupts.watching() as stop:
            noted.extend([stop.requested, *(signal.getsignal(signal.Signals[name]) for name in NAMES)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert noted == [None, *before]
