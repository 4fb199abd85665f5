"""Starting a suite: which file, which command line, what becomes of signals and exit codes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # Snakemake has it, without types
import pytest

from daar.errors import InputError
from daar.run import start
from daar.storage.bundled import SUITES

# a child that starts one of its own; both say which signal they got, as Snakemake and its jobs would get it
FAMILY = r"""
import os, signal, subprocess, sys, time
def say(word):  # in one piece: both write to one pipe
    os.write(1, f"{sys.argv[1]} {word}\n".encode())
def got(number, frame):
    say(signal.Signals(number).name)
    sys.exit(7)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, got)
job = subprocess.Popen([sys.executable, "-c", sys.argv[2], "job", ""]) if sys.argv[2] else None
say("started")
try:
    time.sleep(600)
finally:
    job and job.wait()
"""
START = "import sys; from daar.run import start; sys.exit(start.run(sys.argv[1:]))"


@pytest.fixture
def running() -> Iterator[subprocess.Popen[str]]:
    """A process in `start.run`, whose child and grandchild have started."""
    command = [sys.executable, "-c", START, sys.executable, "-c", FAMILY, "child", FAMILY]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert {process.stdout.readline(), process.stdout.readline()} == {"child started\n", "job started\n"}
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_reaches_all_that_was_started_once(
    running: subprocess.Popen[str], number: signal.Signals, code: int
) -> None:
    os.kill(running.pid, number)
    out, err = running.communicate(timeout=300)
    assert sorted(out.splitlines()) == [f"child {number.name}", f"job {number.name}"]
    assert (running.returncode, err) == (code, "")


def test_what_a_killed_process_has_started_ends_too() -> None:
    """The child asks to end with its starter, as Snakemake does; kill -9 of that leaves none of it at work."""
    child = (
        "import os, sys, time; from daar.run import locks; locks.end_with_starter(); "
        "assert 'DAAR_STARTER' not in os.environ; print(os.getpid(), flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", START, sys.executable, "-c", child], stdout=subprocess.PIPE)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert psutil.pid_exists(pid)
    process.kill()
    process.communicate()
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=300)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_child_that_outlives_nobody_ends_by_itself() -> None:
    code = "from daar.run import locks; locks.end_with_starter(); import time; time.sleep(0.2); print('done')"
    command = [sys.executable, "-c", START, sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "done\n"


@pytest.mark.parametrize("own", ["", "1"])
def test_only_our_own_safe_path_is_kept_from_what_is_started(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command `daar` sets it for its workers; a method's own program may import what lies next to it."""
    monkeypatch.setenv("PYTHONSAFEPATH", own or "daar")
    code = f"import os, sys; sys.exit(os.environ.get('PYTHONSAFEPATH', '') != {own!r})"
    assert start.run([sys.executable, "-c", code]) == 0


@pytest.mark.parametrize(("ending", "code"), [("sys.exit(0)", 0), ("sys.exit(2)", 2), ("os.kill(os.getpid(), 9)", 137)])
def test_the_exit_code_is_the_command_s(ending: str, code: int) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert start.run([sys.executable, "-c", f"import os, sys; {ending}"]) == code
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_a_file_goes_before_a_suite_that_comes_with_daar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert start.find_suite("demo") == SUITES / "demo.yaml"
    Path("demo").mkdir()  # a folder is no suite
    assert start.find_suite("demo") == SUITES / "demo.yaml"
    Path("paper").write_text("suite: paper")
    assert start.find_suite("paper") == Path("paper")
    assert start.find_suite(str(SUITES / "imagenet.yaml")) == SUITES / "imagenet.yaml"


@pytest.mark.parametrize("name", ["nope", "nope.yaml", "demo.yaml"])
def test_a_suite_that_is_not_there_lists_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"unknown suite '{name}'.*cifar100, demo, imagenet, paper"):
        start.find_suite(name)


def test_what_is_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("folder").mkdir()
    Path("dangling").symlink_to("nowhere")
    Path("loop").symlink_to("loop")
    named = {"pipe": "is a pipe", "folder": "is a folder", "dangling": "no such file", "loop": "symbolic links"}
    for name, said in {**named, "/dev/zero": "is a device"}.items():
        with pytest.raises(InputError, match=f"{name} should be a suite's file, but .*{said}"):
            start.find_suite(name)
    for name in ("x" * 300, "x" * 5000, "a\0b", "x/" * 3000, ""):
        with pytest.raises(InputError, match="unknown suite") as error:
            start.find_suite(name)
        assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("options", "cores"),
    [
        (["-n"], True),
        (["--config", "seeds=[0]"], True),
        (["--cores", "3"], False),
        (["--cores=3"], False),
        (["-c3"], False),
        (["-j", "8"], False),
        (["--profile", "slurm"], False),
    ],
)
def test_cores_are_said_once(options: list[str], cores: bool) -> None:
    command = start.command(Path("suite.yaml"), 2, options)
    assert ("--cores 2" in " ".join(command)) == cores
    # at the end: it takes as many files as follow, so a target would be taken for one
    assert command[-2:] == ["--configfile", "suite.yaml"]
    assert " ".join(options) in " ".join(command)
    assert command[command.index("--logger") + 1] == "daar"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_snakemake_is_imported_gives_one_line(tmp_path: Path, number: signal.Signals, code: int) -> None:
    # a package in its place, which is still being imported when the signal comes
    (tmp_path / "snakemake").mkdir()
    (tmp_path / "snakemake" / "__init__.py").touch()
    (tmp_path / "snakemake" / "cli.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    command = start.command(tmp_path / "suite.yaml", 1)
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=300)
    line = "daar: interrupted before the first job; the same command starts it again.\n"
    assert (process.returncode, errors) == (code, line)


def test_who_could_not_say_it_is_spoken_for() -> None:
    silent = "import os, time; print('started', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", START, sys.executable, "-c", silent],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=300)
    line = "daar: interrupted; the same command goes on from what was saved last.\n"
    assert (process.returncode, errors) == (143, line)
