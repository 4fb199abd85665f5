"""What jobs are given: GPUs, slots and threads, as Snakemake would hand them out."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflow.test_dag import snakemake

# every rule that there is
SUITE: dict[str, Any] = {
    **{"suite": "tiny", "datasets": ["digits"], "networks": ["resnet20"], "macs_reductions": [0.5]},
    **{"seeds": [0], "finetune": {"epochs": 1}, "methods": ["l1", "hrank"], "latency": True},
    "variants": {"at": {"random_at": "l1"}, "anew": {"scratch_of": "l1"}},
    "stability": {"images": [10, 20], "variants": ["hrank"]},
}
COMPUTING = {"train", "score", "plan", "finetune", "scratch", "measure", "record", "latency", "stability"}


@dataclass(frozen=True)
class Job:
    rule: str
    threads: int
    gpu: int | None
    command: str


def planned(folder: Path, *arguments: str, visible: str = "", **changes: Any) -> list[Job]:
    """The jobs with a command of a dry run on two cores; `visible` GPUs are only a variable."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**SUITE, **changes}))
    asked = ("-n", "-p", "--configfile", "tiny.yaml", *arguments)
    done = snakemake(*asked, cwd=folder, environment={"CUDA_VISIBLE_DEVICES": visible})
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = []
    for part in re.split(r"\n(?=rule \w+:\n)", done.stdout):
        if not (rule := re.match(r"rule (\w+):\n", part)):
            continue
        threads, gpu = re.search(r"^    threads: (\d+)$", part, re.MULTILINE), re.search(r"\bgpu=(\d+)", part)
        command = re.search(r"^Shell command: (.*)$", part, re.MULTILINE)
        if command and command[1] != "None":
            jobs.append(Job(rule[1], int(threads[1]) if threads else 1, int(gpu[1]) if gpu else None, command[1]))
    return jobs


@pytest.mark.parametrize(("visible", "slots", "total"), [("", 3, 0), ("0", 1, 1), ("0,1", 3, 6)])
def test_gpus_times_slots_are_handed_out(tmp_path: Path, visible: str, slots: int, total: int) -> None:
    jobs = planned(tmp_path, visible=visible, slots_per_gpu=slots)
    asked = {(job.rule == "latency", job.gpu) for job in jobs if job.gpu is not None}
    assert asked == {(False, min(1, total)), (True, min(slots, total))}  # latency: every slot of one GPU


def test_slots_of_the_environment_hold_where_the_suite_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAAR_SLOTS_PER_GPU", "4")
    assert {job.gpu for job in planned(tmp_path, visible="0") if job.rule == "latency"} == {4}
    assert {job.gpu for job in planned(tmp_path, visible="0", slots_per_gpu=2) if job.rule == "latency"} == {2}


@pytest.mark.parametrize("cores", [1, 16])
def test_every_job_that_computes_is_told_its_threads_and_they_fit(tmp_path: Path, cores: int) -> None:
    found = set()
    for job in planned(tmp_path, "--cores", str(cores)):
        assert job.threads <= cores, job
        assert job.threads == cores or job.rule != "latency"
        stage = job.command.removeprefix("python -P -m daar ").split()[0]
        if stage in COMPUTING:
            found.add(stage)
            assert re.findall(r" --threads (\d+)", job.command) == [str(job.threads)], job
        # Ctrl-C goes to tee as well, and the job still says where it has saved
        assert re.search(r" 2>&1 \| tee -i results/\S+\.log$", job.command), job
    assert found == COMPUTING


def test_the_dense_network_is_measured_on_no_more_cores_than_a_tuning_has(tmp_path: Path) -> None:
    """Records wait for it: it would have to wait for all cores at once, which tunings of one core never leave free."""
    threads = {job.rule: job.threads for job in planned(tmp_path, "--cores", "4", methods=["l1", "hrank", "fpgm"])}
    assert (threads["train"], threads["measure"], threads["finetune"]) == (4, 1, 1)


def test_threads_of_a_job_can_be_set(tmp_path: Path) -> None:
    """Two trainings beside each other on two cores, in place of one on both."""
    jobs = planned(tmp_path, "--set-threads", "train=1", "finetune=1")
    assert {job.threads for job in jobs if job.rule in ("train", "finetune")} == {1}
    assert all(" --threads 1 " in job.command for job in jobs if job.rule in ("train", "finetune"))
