"""GPUs are kept apart by locks: real processes contend for devices that are only names."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from daar.device import gpu, lease
from daar.errors import InputError

# says which GPU it has, and keeps it until its standard input ends
HOLD = """
import sys
from daar.device import lease
print(lease.take(sys.argv[2:], int(sys.argv[1])), flush=True)
sys.stdin.read()
"""


class Holders:
    """Processes that hold GPUs, in a folder of locks of their own."""

    def __init__(self, folder: Path) -> None:
        self.environment = {**os.environ, "DAAR_LOCKS": str(folder)}
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *gpus: str, slots: int = 1) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, "-c", HOLD, str(slots), *gpus]
        process = subprocess.Popen(command, env=self.environment, text=True, **pipes)  # type: ignore[call-overload]
        self.processes.append(process)
        return process

    def hold(self, *gpus: str, slots: int = 1) -> int:
        """Start one that needs not wait; the index of the GPU it has."""
        return got(self.start(*gpus, slots=slots))

    def kill(self) -> None:
        for process in self.processes:
            process.kill()

    def wait(self, *gpus: str, slots: int = 1) -> tuple[subprocess.Popen[str], str]:
        """Start one that must wait; the process, and what it says of that."""
        process = self.start(*gpus, slots=slots)
        assert process.stderr is not None
        return process, process.stderr.readline()


def got(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def end(process: subprocess.Popen[str]) -> str:
    """Let it go; what it has said on standard error."""
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    return said


@pytest.fixture
def holders(tmp_path: Path) -> Iterator[Holders]:
    made = Holders(tmp_path)
    # a test that waits in vain ends, since all that it reads from ends
    watchdog = threading.Timer(300, made.kill)
    watchdog.start()
    yield made
    watchdog.cancel()
    made.kill()
    for process in made.processes:
        process.communicate()


def test_jobs_take_different_gpus_and_the_next_waits_and_says_so_once(holders: Holders, tmp_path: Path) -> None:
    first = holders.start("a", "b")
    assert got(first) == 0
    assert holders.hold("a", "b") == 1
    waiting, said = holders.wait("a", "b")
    assert said == f"daar: all 2 GPUs are taken by other jobs (locks in {tmp_path}); waiting\n"
    assert end(first) == ""
    assert got(waiting) == 0
    assert end(waiting) == ""


def test_a_gpu_is_known_by_its_name_whatever_its_number(holders: Holders) -> None:
    """Under CUDA_VISIBLE_DEVICES=1 the second GPU is number 0, and taken all the same."""
    assert holders.hold("b") == 0
    assert holders.hold("a", "b") == 0
    assert holders.wait("b", "a")[1].startswith("daar: all 2 GPUs are taken")
    assert holders.wait("a")[1].startswith("daar: the GPU is taken")


def test_kill_9_frees_a_gpu(holders: Holders) -> None:
    victim = holders.start("a")
    assert got(victim) == 0
    waiting, _ = holders.wait("a")
    victim.send_signal(signal.SIGKILL)
    assert got(waiting) == 0


def test_slots_are_filled_gpu_by_gpu(holders: Holders) -> None:
    assert [holders.hold("a", "b", slots=2) for _ in range(4)] == [0, 1, 0, 1]
    assert holders.wait("a", "b", slots=2)[1]


def test_an_empty_gpu_comes_before_company(holders: Holders) -> None:
    first = holders.start("a", slots=2)
    assert got(first) == holders.hold("a", slots=2) == 0
    end(first)  # now the first slot is free on both, but `a` has another job in its second
    assert holders.hold("a", "b", slots=2) == 1


def test_who_asks_for_no_company_has_none(holders: Holders) -> None:
    """Another run with other slots changes nothing for a job that takes its GPU whole."""
    alone = holders.start("a")
    assert got(alone) == 0
    sharing, said = holders.wait("a", slots=4)
    assert said
    end(alone)
    assert got(sharing) == 0
    whole, said = holders.wait("a")
    assert said
    end(sharing)
    assert got(whole) == 0


TAKE_TURNS = """
import os, sys, time
from pathlib import Path
from daar.device import lease
slots, board = int(sys.argv[1]), Path(sys.argv[2])
lease.POLL_SECONDS = 0.01
index = lease.take(sys.argv[3:], slots)
places = [board / f"{sys.argv[3 + index]}-{place}" for place in range(slots)]
for place in places:
    try:
        os.close(os.open(place, os.O_CREAT | os.O_EXCL))
        break
    except FileExistsError:
        continue
else:
    sys.exit(f"one too many on GPU {index}")
time.sleep(0.05)
place.unlink()
"""


@pytest.mark.parametrize("slots", [1, 2])
def test_never_more_jobs_on_a_gpu_than_slots(tmp_path: Path, slots: int) -> None:
    """A board, of files that only one can make, bears witness of who is where."""
    board = tmp_path / "board"
    board.mkdir()
    command = [sys.executable, "-c", TAKE_TURNS, str(slots), str(board), "a", "b"]
    environment = {**os.environ, "DAAR_LOCKS": str(tmp_path)}
    jobs = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(12)]
    for job in jobs:
        said = job.communicate(timeout=300)[1]
        assert job.returncode == 0, said
    assert not list(board.iterdir())


def test_a_process_keeps_the_one_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAAR_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setattr(lease, "_held", {})
    assert [lease.take(["a", "b"]) for _ in range(2)] == [0, 0]
    for locks in lease._held.values():
        locks.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DAAR_LOCKS", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot lock .*file/a.slot0.*Set DAAR_LOCKS"):
        lease.take(["a"])


def test_every_process_of_a_user_has_the_same_folder_of_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Snakemake or a scheduler sets for temporary files."""
    monkeypatch.delenv("DAAR_LOCKS", raising=False)
    folders = set()
    for variables in ({}, {"TMPDIR": "/scratch/job7"}, {"XDG_RUNTIME_DIR": "/run/user/1000"}):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        folders.add(lease.folder())
    assert len(folders) == 1


def test_without_file_locks_one_line_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "fcntl", None)
    assert lease.take(["a", "b"]) == 0
    assert capsys.readouterr().err.count("\n") == 1


# devices


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A torch that sees two GPUs; yields the indices made current."""
    current: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"gpu-{index}"))
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setenv("DAAR_LOCKS", str(tmp_path))
    monkeypatch.setattr(lease, "_held", {})
    yield current
    for locks in lease._held.values():
        locks.close()


@pytest.mark.parametrize(("asked", "given"), [("auto", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_a_device_has_an_index_and_is_current(two_gpus: list[int], asked: str, given: int) -> None:
    assert gpu.choose_device(asked) == torch.device("cuda", given)
    assert two_gpus == [given]
    assert list(lease._held) == [f"gpu-{given}"]


def test_a_free_gpu_is_taken(two_gpus: list[int], holders: Holders) -> None:
    holders.hold("gpu-0")
    assert gpu.choose_device("auto") == torch.device("cuda", 1)


def test_the_cpu_takes_no_gpu(two_gpus: list[int]) -> None:
    assert gpu.choose_device("cpu") == torch.device("cpu")
    assert not lease._held


# jobs of a scheduler


@pytest.fixture
def granted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a job that Slurm started for the workflow."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv(gpu.GRANTED, "1")


@pytest.mark.usefixtures("granted")
def test_what_slurm_granted_is_taken_without_a_lease(
    two_gpus: list[int], holders: Holders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    holders.hold("gpu-0")  # another job's, on whatever terms
    assert gpu.choose_device("auto") == torch.device("cuda", 0)
    assert gpu.choose_device("cuda:1") == torch.device("cuda", 1)
    assert two_gpus == [0, 1]
    assert not lease._held


@pytest.mark.usefixtures("granted", "two_gpus")
def test_a_job_without_a_gpu_takes_the_cpu_whatever_the_node_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu.choose_device("auto") == torch.device("cpu")
    assert (
        capsys.readouterr().err == "daar: Slurm granted this job no GPU, so that it takes the CPU; gpu=1 asks for one\n"
    )


@pytest.mark.usefixtures("granted")
def test_a_granted_gpu_that_torch_does_not_see_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert gpu.choose_device("auto") == torch.device("cpu")
    assert "Slurm granted GPU 0, but torch sees none here" in capsys.readouterr().err


def test_within_an_allocation_of_one_s_own_the_lease_holds(
    two_gpus: list[int], holders: Holders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several jobs of one Snakemake then share what Slurm gave to all of them."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    holders.hold("gpu-0")
    assert gpu.choose_device("auto") == torch.device("cuda", 1)
    assert list(lease._held) == ["gpu-1"]
    assert two_gpus == [1]


@pytest.mark.parametrize("name", ["cuda:2", "cuda:-1", "cuda:", "tpu"])
def test_a_device_that_is_not_there_is_refused(two_gpus: list[int], name: str) -> None:
    with pytest.raises(InputError, match=f"device '{name}' is not there; this machine has: cuda, cpu, cuda:0, cuda:1"):
        gpu.choose_device(name)


@pytest.mark.parametrize(
    ("visible", "count"), [("", 0), ("-1", 0), ("2", 1), ("0,3", 2), ("GPU-8f1e, GPU-03ab", 2), ("0,-1,1", 1)]
)
def test_gpus_are_counted_as_cuda_reads_the_variable(monkeypatch: pytest.MonkeyPatch, visible: str, count: int) -> None:
    """An entry of -1 hides all after it (CUDA C++ Programming Guide, CUDA environment variables)."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu.count_gpus() == count


def test_slots_come_from_the_command_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(gpu.SLOTS, raising=False)
    assert gpu.slots_per_gpu() == 1
    monkeypatch.setenv(gpu.SLOTS, "3")
    assert (gpu.slots_per_gpu(), gpu.slots_per_gpu(2)) == (3, 2)
    for wrong in ("0", "two", "1.5"):
        monkeypatch.setenv(gpu.SLOTS, wrong)
        with pytest.raises(InputError, match=f"whole number of 1 or more, got '{wrong}'"):
            gpu.slots_per_gpu()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_one_gpu_under_its_number_and_its_uuid(tmp_path: Path) -> None:
    uuid = str(torch.cuda.get_device_properties(0).uuid)
    script = (
        "import sys; from daar.device.gpu import choose_device; "
        "print(choose_device('auto'), flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "DAAR_LOCKS": str(tmp_path), "CUDA_VISIBLE_DEVICES": "0"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    jobs = []
    for visible in ("0", f"GPU-{uuid}"):
        environment["CUDA_VISIBLE_DEVICES"] = visible
        jobs.append(subprocess.Popen([sys.executable, "-c", script], env=environment, text=True, **pipes))  # type: ignore[call-overload]
        pipe = jobs[0].stdout if len(jobs) == 1 else jobs[1].stderr
        assert pipe is not None
        assert ("cuda:0" if len(jobs) == 1 else "taken by other jobs") in pipe.readline()
    for job in jobs:
        assert job.communicate(timeout=300)[0] in ("", "cuda:0\n")
        assert job.returncode == 0
