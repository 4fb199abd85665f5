"""Jobs of a run in forks of a loaded process; the jobs here are lines of Python."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # Snakemake has it, without types
import pytest

from daar.run.forks import messages, starting

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")

_SERVER = "import sys; from daar.run.forks import server; server.serve(lambda: exec(sys.argv[2], {}))"
# the server takes what comes first for a command of daar, before which it need not load the stages
_CLIENT = """
import sys
from daar.run.forks import client
code = client.hand_over(["list", *sys.argv[1:]])
client.end_like(99 if code is None else code)
"""


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server's name, in the environment; it ends after the test."""
    monkeypatch.setattr(starting, "_held", [])
    monkeypatch.delenv(messages.VARIABLE, raising=False)
    starting.start([sys.executable, "-P", "-c", _SERVER])
    yield os.environ[messages.VARIABLE]
    monkeypatch.delenv(messages.VARIABLE)
    _end()


def _end() -> None:
    """The run is over: its server ends."""
    ((server, pipe),) = starting._held
    os.close(pipe)
    server.wait(300)


@contextlib.contextmanager
def _client(job: str, **how: Any) -> Iterator[subprocess.Popen[str]]:
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **how}
    with subprocess.Popen([sys.executable, "-P", "-c", _CLIENT, job], **how) as process:
        yield process


def _run(job: str, **how: Any) -> tuple[int, str, str]:
    with _client(job, **how) as process:
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err


def _eventually(holds: Callable[[], Any]) -> Any:
    for _ in range(6000):
        if value := holds():
            return value
        time.sleep(0.05)
    pytest.fail("it did not come about within 300 s")


@pytest.mark.usefixtures("name")
class TestAJob:
    def test_has_the_clients_streams_directory_and_environment_and_its_exit_code(self, tmp_path: Path) -> None:
        job = (
            "import os, sys; print(os.getcwd(), os.environ.get('ONLY_HERE'), sys.stdin.read()); "
            "print('to stderr', file=sys.stderr); sys.exit(7)"
        )
        (tmp_path / "given").write_text("read from stdin")
        with (tmp_path / "given").open() as given:
            environment = {**os.environ, "ONLY_HERE": "ünï\n'\"$(x)"}
            code, out, err = _run(job, cwd=tmp_path, env=environment, stdin=given)
        assert (code, out, err) == (7, f"{tmp_path} ünï\n'\"$(x) read from stdin\n", "to stderr\n")

    def test_sees_nothing_of_the_job_before(self) -> None:
        first = "import os, sys; os.environ['LEFT'] = '1'; sys.left = 1; os.chdir('/')"
        assert _run(first)[0] == 0
        code, out, _ = _run("import os, sys; print('LEFT' in os.environ, hasattr(sys, 'left'), os.getcwd())")
        assert (code, out) == (0, f"False False {Path.cwd()}\n")

    def test_that_fails_with_a_traceback_exits_with_1_as_python_does(self) -> None:
        code, _, err = _run("1 / 0")
        assert code == 1
        assert "ZeroDivisionError" in err

    @pytest.mark.parametrize(
        ("end", "code", "said"),
        [("sys.exit()", 0, ""), ("sys.exit('no')", 1, "no\n"), ("sys.exit(300)", 300 % 256, ""), ("pass", 0, "")],
    )
    def test_ends_as_python_ends(self, end: str, code: int, said: str) -> None:
        """By the code that it gives, after what waits for its end: threads, and functions that are called then."""
        job = (
            "import atexit, sys, threading, time\n"
            "atexit.register(print, 'at the end')\n"
            "threading.Thread(target=lambda: (time.sleep(0.3), print('from a thread'))).start()\n" + end
        )
        plain = subprocess.run([sys.executable, "-P", "-c", job], capture_output=True, text=True, check=False)
        assert (plain.returncode, plain.stdout, plain.stderr) == (code, "from a thread\nat the end\n", said)
        assert _run(job) == (code, plain.stdout, plain.stderr)

    def test_that_is_killed_kills_its_client_by_the_same_signal(self) -> None:
        assert _run("import os; os.kill(os.getpid(), 9)")[0] == -signal.SIGKILL

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_gets_a_signal_of_its_client_once(self, number: signal.Signals) -> None:
        job = (
            "import signal, sys, time\n"
            "got = []\n"
            f"signal.signal({number:d}, lambda *_: got.append(1))\n"
            "print('ready', flush=True)\n"
            "while not got: time.sleep(0.01)\n"
            "time.sleep(0.3); print(len(got)); sys.exit(143)"
        )
        with _client(job, process_group=0) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            os.killpg(process.pid, number)  # as a terminal does, and `daar run`
            assert (process.stdout.read(), process.wait(300)) == ("1\n", 143)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_without_a_handler_ends_with_one_line_and_128_more_than_the_signal(self, number: signal.Signals) -> None:
        with _client("print('ready', flush=True); import time; time.sleep(60)") as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(number)
            _, err = process.communicate(timeout=300)
            assert process.returncode == 128 + number
            assert err.count("\n") == 1
            assert "interrupted" in err

    def test_ignores_what_its_client_was_told_to_ignore(self) -> None:
        job = "import signal; print([signal.getsignal(n) == signal.SIG_IGN for n in (1, 2, 15)])"
        shell = f'trap \'\' HUP INT; exec {sys.executable} -P -c "$CLIENT" "$JOB"'
        environment = {**os.environ, "CLIENT": _CLIENT, "JOB": job}
        out = subprocess.run(["bash", "-c", shell], env=environment, capture_output=True, text=True, check=True).stdout
        assert out == "[True, True, False]\n"

    def test_is_killed_with_its_client(self) -> None:
        with _client("import os, time; print(os.getpid(), flush=True); time.sleep(60)") as process:
            assert process.stdout is not None
            job = psutil.Process(int(process.stdout.readline()))
            process.kill()
            _eventually(lambda: not job.is_running() or job.status() == psutil.STATUS_ZOMBIE)

    def test_runs_next_to_others(self) -> None:
        """Each waits for the other to have begun."""
        job = (
            "import os, sys, time, pathlib\n"
            "mine, other = sys.argv[3:]\n"
            "pathlib.Path(mine).touch()\n"
            "while not pathlib.Path(other).exists(): time.sleep(0.01)"
        )
        for _ in range(3):
            pair = [
                subprocess.Popen([sys.executable, "-P", "-c", _CLIENT, job, *names], cwd=self._folder)
                for names in (("a", "b"), ("b", "a"))
            ]
            assert [process.wait(300) for process in pair] == [0, 0]

    @pytest.fixture(autouse=True)
    def _in_folder(self, tmp_path: Path) -> None:
        self._folder = tmp_path


class TestTheServer:
    @pytest.mark.usefixtures("name")
    def test_refuses_a_client_of_other_code_which_then_runs_its_job_itself(self) -> None:
        other = _CLIENT.replace("code =", "from daar.run.forks import messages; messages.program = lambda: 0\ncode =")
        command = [sys.executable, "-P", "-c", other, "print(1)"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (run.returncode, run.stdout) == (99, "")

    def test_that_is_gone_or_that_torchrun_goes_past_leaves_the_job_to_its_client(self, name: str) -> None:
        assert _run("print(1)", env={**os.environ, "RANK": "0"})[:2] == (99, "")
        assert _run("print(1)", env={**os.environ, messages.VARIABLE: f"{name}-other"})[:2] == (99, "")
        assert _run("print(1)", env={k: v for k, v in os.environ.items() if k != messages.VARIABLE})[0] == 99

    @pytest.mark.usefixtures("name")
    def test_that_is_killed_ends_its_clients_when_their_jobs_have_ended(self, tmp_path: Path) -> None:
        job = "import os, time, pathlib; print(os.getpid(), flush=True); time.sleep(1); pathlib.Path('saved').touch()"
        with _client(job, cwd=tmp_path) as process:
            assert process.stdout is not None
            process.stdout.readline()
            starting._held[0][0].kill()
            assert process.wait(300) == 128 + signal.SIGTERM
            assert (tmp_path / "saved").exists()

    def test_lets_jobs_end_when_its_run_is_gone_and_then_ends(self) -> None:
        """The run here is a process that starts a server, prints its name, and is killed."""
        starter = (
            "import os, sys, time; from daar.run.forks import messages, starting; "
            f"starting.start([sys.executable, '-P', '-c', {_SERVER!r}]); "
            "print(os.environ[messages.VARIABLE], flush=True); time.sleep(60)"
        )
        with subprocess.Popen([sys.executable, "-P", "-c", starter], stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            environment = {**os.environ, messages.VARIABLE: run.stdout.readline().strip()}
            job = "import os, time; print(os.getppid(), flush=True); time.sleep(1); print('done')"
            with _client(job, env=environment) as process:
                assert process.stdout is not None
                server = psutil.Process(int(process.stdout.readline()))
                run.kill()
                assert (process.stdout.read(), process.wait(300)) == ("done\n", 0)
        _eventually(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
        assert _run("print(1)", env=environment)[0] == 99


class TestARealJob:
    def test_is_a_fork_of_a_process_that_has_torch(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """`daar describe` of a file that is none: its line, its exit code; and no torch is loaded by the job itself."""
        monkeypatch.setattr(starting, "_held", [])
        monkeypatch.delenv(messages.VARIABLE, raising=False)
        starting.start()
        try:
            runs = [
                subprocess.run(
                    [sys.executable, "-P", "-m", "daar", "score", str(tmp_path / "none"), *arguments],
                    capture_output=True, text=True, env=environment, check=False,
                )
                for arguments in (["--dataset", "digits", "--out", str(tmp_path / "x.safetensors")],)
                for environment in (os.environ, {k: v for k, v in os.environ.items() if k != messages.VARIABLE})
            ]  # fmt: skip
        finally:
            monkeypatch.delenv(messages.VARIABLE)
            _end()
        assert (runs[0].returncode, runs[0].stdout, runs[0].stderr) == (runs[1].returncode, "", runs[1].stderr)
        assert runs[0].returncode == 2


def test_a_message_of_any_length_and_text_comes_through() -> None:
    import socket

    here, there = socket.socketpair()
    content = {"text": "ü\0\n" * 70_000, "none": None}
    with here, there:
        import threading

        sender = threading.Thread(target=messages.send, args=(here, content))
        sender.start()
        assert messages.receive(there) == (json.loads(json.dumps(content)), [])
        sender.join()
        here.close()
        assert messages.receive(there) == (None, [])
