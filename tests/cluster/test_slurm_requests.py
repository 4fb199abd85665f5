"""What is said before anything is queued, with stand-ins for Slurm's commands; tests/cluster has the real ones."""

from pathlib import Path
from typing import Any

import pytest

from daar.cluster import slurm
from daar.errors import InputError

# what they print on a cluster where all is well
FINE = {
    "sacct": "exit 0",
    "squeue": "exit 0",
    "scontrol": "echo 'PartitionName=gpu AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL'",
    "sacctmgr": "exit 1",
    "sinfo": "echo 'gpu*|1-00:00:00|idle|64000'; echo 'gpu*|1-00:00:00|down*|9000+'; echo 'old|infinite|drained|4000'",
    "sbatch": 'echo "$@" >>"$ASKED"; echo "sbatch: Job 7 to start at 2026-11-24" >&2',
    "srun": 'for file; do :; done; cat "$file"',
}
REQUEST = {"slurm_partition": "gpu", "gpu": 1, "mem_mb": 3000, "runtime": 60, "_cores": 4, "turn": 1}


class Commands:
    """Stand-ins on the PATH; `asked` is what sbatch was given, a line each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def become(self, **scripts: str) -> None:
        for name, script in scripts.items():
            path = self._folder / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        return (self._folder / "asked").read_text().splitlines()


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("ASKED", str(folder / "asked"))
    monkeypatch.chdir(tmp_path)
    slurm._partitions.cache_clear()
    found = Commands(folder)
    found.become(**FINE)
    return found


def refusal(*requests: dict[str, Any], status_command: str | None = None) -> str:
    with pytest.raises(InputError) as raised:
        slurm.require_startable(requests or (REQUEST,), status_command=status_command)
    said = str(raised.value)
    assert "\n" not in said
    return said


def test_nothing_is_said_where_all_is_well_and_slurm_is_asked_once_for_the_largest(commands: Commands) -> None:
    smaller = {**REQUEST, "mem_mb": 2000, "runtime": 90, "_cores": 1}
    slurm.require_startable([REQUEST, smaller, {**REQUEST, "gpu": 0}], status_command=None)
    assert len(commands.asked) == 2
    words = commands.asked[0].split()
    assert {"--test-only", "--partition=gpu", "--gpus=1", "--mem=3000", "--time=90", "--cpus-per-task=4"} <= set(words)
    assert not any("gpus" in word for word in commands.asked[1].split())


def test_the_type_of_gpu_account_and_qos_are_asked_for(commands: Commands) -> None:
    request = {**REQUEST, "gpu": 2, "gpu_model": "a100", "slurm_account": "lab", "qos": "long", "nodes": 2, "tasks": 2}
    slurm.require_startable([request], status_command="squeue")
    words = set(commands.asked[0].split())
    assert {"--gpus=a100:2", "--account=lab", "--qos=long", "--nodes=2", "--ntasks=2"} <= words


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Invalid account or account/partition combination specified", "Set slurm_account in workflow/profiles"),
        ("Invalid qos specification", "Set qos in workflow/profiles"),
        ("Invalid generic resource (gres) specification", "Change slurm_partition, gpu_model, max-threads or gpu"),
        ("Requested node configuration is not available", "This cluster has gpu*|1-00:00:00|idle"),
        ("Unable to contact slurm controller (connect failure)", "try `sinfo`"),
        ("Something of its own", "Change it in workflow/profiles/slurm/config.yaml"),
    ],
)
def test_what_slurm_refuses_is_said_with_what_to_change(commands: Commands, said: str, words: str) -> None:
    commands.become(sbatch=f"echo 'sbatch: error: first line' >&2; echo 'allocation failure: {said}' >&2; exit 1")
    found = refusal()
    assert said in found
    assert words in found


@pytest.mark.usefixtures("commands")
def test_a_partition_that_is_not_there() -> None:
    assert "partition 'gpus' is not there; this cluster has: gpu, old" in refusal(
        {**REQUEST, "slurm_partition": "gpus"}
    )


@pytest.mark.usefixtures("commands")
def test_a_job_longer_than_its_partition_allows_would_wait_for_ever() -> None:
    for request in ({**REQUEST, "runtime": 1441}, {**REQUEST, "runtime": 1441, "slurm_partition": None}):
        assert "asks for 1441 minutes, partition gpu allows 1440" in refusal(request)


@pytest.mark.usefixtures("commands")
def test_a_partition_without_a_node_that_is_up() -> None:
    assert "no node of partition old is up" in refusal({**REQUEST, "slurm_partition": "old"})


def test_a_partition_for_some_accounts_alone(commands: Commands) -> None:
    commands.become(scontrol="echo 'PartitionName=gpu AllowAccounts=lab,guests AllowQos=ALL'")
    assert "is for the accounts lab, guests, got none" in refusal()
    assert "got other: a job would wait for ever" in refusal({**REQUEST, "slurm_account": "other"})
    slurm.require_startable([{**REQUEST, "slurm_account": "guests"}], status_command=None)
    commands.become(sacctmgr="echo lab")  # the user's default
    slurm.require_startable([REQUEST], status_command=None)


def test_a_partition_that_starts_nothing(commands: Commands) -> None:
    commands.become(scontrol="echo 'PartitionName=gpu AllowAccounts=ALL State=DRAIN'")
    assert "partition gpu is DRAIN, so that no job would start there" in refusal()


def test_the_ceiling_is_the_partition_s(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    assert slurm.ceiling(None) == slurm.ceiling("gpu") == (64000, 1440)
    assert slurm.ceiling("old") == (4000, None)
    assert slurm.ceiling("other") == (None, None)
    monkeypatch.setenv("PATH", "/nowhere")
    assert slurm.ceiling("gpu") == (None, None)
    del commands


def test_no_accounts_are_kept(commands: Commands) -> None:
    commands.become(sacct="echo 'Slurm accounting storage is disabled' >&2; exit 1")
    for command in (None, "sacct"):
        assert "Set `slurm-status-command: squeue`" in refusal(status_command=command)
    slurm.require_startable([REQUEST], status_command="squeue")


def test_jobs_of_a_run_that_was_killed(commands: Commands, tmp_path: Path) -> None:
    commands.become(squeue=f"echo '12|{tmp_path}'; echo '9|{tmp_path}'; echo '13|/elsewhere'")
    found = refusal()
    assert found.startswith("2 jobs of an earlier run")
    assert found.endswith("scancel 9 12")


def test_no_slurm_here(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "no sbatch here" in refusal()
    del commands


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [("infinite", None), ("30:00", 30), ("1:00:00", 60), ("2-00:00:00", 2880), ("1-01:30:00", 1530), ("n/a", None)],
)
def test_limits_are_read(limit: str, minutes: int | None) -> None:
    assert slurm._minutes(limit) == minutes


def test_a_node_sees_the_folder(commands: Commands, tmp_path: Path) -> None:
    assert slurm.require_shared_folder(REQUEST, tmp_path / "results") is None
    assert not list((tmp_path / "results").iterdir())
    del commands


@pytest.mark.parametrize("script", ["echo 'cat: x: No such file or directory' >&2; exit 1", "echo other"])
def test_a_node_does_not_see_the_folder(commands: Commands, tmp_path: Path, script: str) -> None:
    commands.become(srun=script)
    with pytest.raises(InputError, match=r"a node does not see .* on a file system that all nodes share"):
        slurm.require_shared_folder(REQUEST, tmp_path / "results")
    assert not list((tmp_path / "results").iterdir())


def test_no_node_is_free_to_look(commands: Commands, tmp_path: Path) -> None:
    commands.become(srun="echo 'srun: error: Unable to allocate resources: Requested nodes are busy' >&2; exit 1")
    assert "no node was free" in str(slurm.require_shared_folder(REQUEST, tmp_path))


def test_the_profile_s_components(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert slurm.components() == {"importance": 4, "tuning": 1, "dense": 1}
    monkeypatch.setattr(slurm, "ROOT", tmp_path)
    (tmp_path / slurm.PROFILE).parent.mkdir(parents=True)
    (tmp_path / slurm.PROFILE).write_text("group-components: 4\n")
    with pytest.raises(InputError, match="GROUP=N"):
        slurm.components()
