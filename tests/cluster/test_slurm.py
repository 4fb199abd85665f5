"""The workflow on a real small Slurm cluster: the same bits as on one machine, whatever is lost on the way."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster import slurm
from tests.cluster.slurm import TINY, Cluster, ask, differences, ended, on_cluster, snakemake, wait, written
from tests.workflow.test_preemption import trainings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(slurm.missing() is not None, reason=slurm.missing() or ""),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with slurm.cluster(tmp_path_factory.mktemp("slurm"), nodes=3, cpus=2) as running:
        yield running


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suite") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="module")
def one(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of one machine."""
    folder = tmp_path_factory.mktemp("one")
    assert snakemake(folder, suite, "--cores", "1").wait() == 0
    return folder / "results"


def train_log(folder: Path) -> str:
    """What the training of the dense network has said so far."""
    return "".join(path.read_text() for path in folder.glob("results/dense/digits/resnet20/*/seed0/train.log"))


def training(folder: Path, epoch: int) -> None:
    """Wait until the dense network has had so many epochs."""
    wait(lambda: f"epoch {epoch}/" in train_log(folder), 180, f"epoch {epoch}")


def test_a_job_that_makes_room_and_a_controller_that_restarts(
    cluster: Cluster, suite: Path, one: Path, tmp_path: Path
) -> None:
    run = on_cluster(tmp_path, suite)
    training(tmp_path, 3)
    [job] = cluster.queue("%A", "-t", "RUNNING")
    ask("scontrol", "requeue", job)
    wait(lambda: not cluster.queue("%A", "-t", "RUNNING"), 60, "the job to make room")
    cluster.release()
    cluster.do("restart")
    assert ended(run, tmp_path) == 0, written(tmp_path)
    assert "continues after" in train_log(tmp_path)
    count, unequal = differences(one, tmp_path / "results")
    assert count >= 6
    assert not unequal


def test_a_lost_node(cluster: Cluster, suite: Path, one: Path, tmp_path: Path) -> None:
    run = on_cluster(tmp_path, suite)
    training(tmp_path, 3)
    [node] = cluster.queue("%N", "-t", "RUNNING")
    cluster.do("lose", node)
    cluster.back(node)
    cluster.release()
    assert ended(run, tmp_path) == 0, written(tmp_path)
    assert differences(one, tmp_path / "results")[1] == []


def test_a_job_that_runs_out_of_time(cluster: Cluster, suite: Path, one: Path, tmp_path: Path) -> None:
    """It saves its last step before it goes, and asks for more time when it is tried again."""
    run = on_cluster(tmp_path, suite)
    training(tmp_path, 3)
    [(job, asked)] = [line.split() for line in cluster.queue("%A %l", "-t", "RUNNING")]
    # Slurm looks at limits twice a minute: held, lest it be done by then
    held = trainings(tmp_path)
    signal_all(held, signal.SIGSTOP)
    ask("scontrol", "update", f"JobId={job}", "EndTime=now+1")
    wait(lambda: job not in cluster.queue("%A", "-t", "RUNNING"), 120, "Slurm to end the job")
    signal_all(held, signal.SIGCONT)
    wait(lambda: job not in cluster.queue("%A", "-t", "COMPLETING"), 60, "the job to end")
    assert "SIGTERM: saved after" in train_log(tmp_path)
    wait(lambda: cluster.queue("%A", "-t", "RUNNING"), 120, "the retry")
    [(retry, more)] = [line.split() for line in cluster.queue("%A %l", "-t", "RUNNING")]
    assert retry != job
    assert minutes(more) > minutes(asked)
    assert ended(run, tmp_path) == 0, written(tmp_path)
    assert "continues after" in train_log(tmp_path)
    assert differences(one, tmp_path / "results")[1] == []


def signal_all(processes: list[int], number: signal.Signals) -> None:
    assert processes
    for process in processes:
        os.kill(process, number)


def minutes(limit: str) -> int:
    """Of a time limit as squeue prints it: [hours:]minutes:seconds."""
    hours, minute, _ = f"0:{limit}".split(":")[-3:]
    return 60 * int(hours) + int(minute)


def test_snakemake_is_killed_and_started_again(cluster: Cluster, suite: Path, one: Path, tmp_path: Path) -> None:
    run = on_cluster(tmp_path, suite)
    training(tmp_path, 3)
    run.send_signal(signal.SIGKILL)
    run.wait()
    [job] = cluster.queue("%A", "-t", "RUNNING")
    assert snakemake(tmp_path, suite, "--unlock", "--cores", "1").wait() == 0
    # its job still works, and would meet a second one at the same files
    assert ended(on_cluster(tmp_path, suite), tmp_path) == 2
    assert written(tmp_path).rstrip().splitlines()[-1].endswith(f"scancel {job}")
    ask("scancel", job)
    wait(lambda: not cluster.queue("%A", "-t", "RUNNING,COMPLETING"), 60, "the job to end")
    assert ended(on_cluster(tmp_path, suite), tmp_path) == 0, written(tmp_path)
    assert "continues after" in train_log(tmp_path)
    assert differences(one, tmp_path / "results")[1] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--default-resources", "slurm_partition=nowhere"],
            "partition 'nowhere' is not there; this cluster has: main",
        ),
        (["--default-resources", "gpu_model=h900"], "Change slurm_partition, gpu_model, max-threads or gpu in"),
        (["--set-resources", "train:mem_mb=900000"], "This cluster has main*: 3 nodes of 2 CPUs, 4000 MB"),
        (["--max-threads", "64"], "max-threads"),
        (["--slurm-status-command", "sacct"], "Set `slurm-status-command: squeue` in"),
    ],
)
@pytest.mark.usefixtures("cluster")
def test_what_would_never_start(suite: Path, tmp_path: Path, options: list[str], words: str) -> None:
    assert ended(on_cluster(tmp_path, suite, *options), tmp_path) == 2
    last = written(tmp_path).rstrip().splitlines()[-1]
    assert last.startswith("daar: error: ")
    assert words in last


@pytest.mark.parametrize(
    ("change", "back", "words"),
    [
        ("AllowAccounts=lab", "AllowAccounts=ALL", "partition main is for the accounts lab, got none"),
        ("MaxTime=1", "MaxTime=INFINITE", "partition main allows 1: it would wait for ever"),
        ("State=DOWN", "State=UP", "partition main is DOWN, so that no job would start there"),
    ],
)
@pytest.mark.usefixtures("cluster")
def test_a_partition_that_would_not_take_it(suite: Path, tmp_path: Path, change: str, back: str, words: str) -> None:
    ask("scontrol", "update", "PartitionName=main", change)
    try:
        assert ended(on_cluster(tmp_path, suite), tmp_path) == 2
    finally:
        ask("scontrol", "update", "PartitionName=main", back)
    assert words in written(tmp_path).rstrip().splitlines()[-1]


def test_a_lost_rank_ends_the_training_at_once_and_the_retry_goes_on(
    cluster: Cluster, suite: Path, tmp_path: Path
) -> None:
    """Two nodes, two processes on each; the same bits as four processes on one machine."""
    several = tmp_path / "several.yaml"
    several.write_text(yaml.safe_dump({**TINY, "distributed": {"processes": 4, "nodes": 2}}))
    alone = tmp_path / "alone"
    assert snakemake(alone, several, "--cores", "2").wait() == 0
    folder = tmp_path / "nodes"
    run = on_cluster(folder, several, "--resources", "gpu=0", "--max-threads", "2")
    training(folder, 3)
    assert len(cluster.queue("%N", "-t", "RUNNING")) == 1
    before = {int(path.name) for path in Path("/proc").glob("[0-9]*") if is_rank(path, "3")}
    assert len(before) == 1
    os.kill(before.pop(), signal.SIGKILL)
    wait(lambda: not any(is_rank(path) for path in Path("/proc").glob("[0-9]*")), 30, "the other ranks to end")
    assert ended(run, folder) == 0, written(folder)
    assert "continues after" in train_log(folder)
    assert differences(alone / "results", folder / "results")[1] == []


def is_rank(process: Path, rank: str | None = None) -> bool:
    """Whether a process is one of a training in several, as torchrun starts them."""
    try:
        environment = dict(part.split("=", 1) for part in (process / "environ").read_text().split("\0") if "=" in part)
        command = (process / "cmdline").read_text().split("\0")
    except (OSError, UnicodeDecodeError):
        return False
    launched = environment.get("WORLD_SIZE") == "4" and "train" in command and "torch.distributed.run" not in command
    return launched and rank in (None, environment.get("RANK"))
