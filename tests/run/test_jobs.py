"""Threads, GPUs, time and memory of jobs, against arithmetic; wildcards are Snakemake's own."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from snakemake.iocontainers import Wildcards

from daar.cluster import costs, slurm
from daar.cluster.costs import Cost, Measured
from daar.device import gpu
from daar.errors import InputError
from daar.run.jobs import Jobs, Where, export_environment, gpu_limit
from daar.suite import definition, reading

SUITE: dict[str, Any] = {
    **{"suite": "small", "datasets": ["digits"], "networks": ["resnet20"], "macs_reductions": [0.5, 0.7]},
    **{"seeds": [0, 1], "finetune": {"epochs": 1, "batch_size": 64}, "train": {"epochs": 1, "batch_size": 64}},
    **{"methods": ["l1", "daar"], "distributed": {"processes": 4, "nodes": 2}},
}
HERE, QUEUED = Where(cores=8), Where(on_cluster=True, max_threads=6)
JOB = Where(on_cluster=True, in_job=True, cores=3, max_threads=6)
CELL = {"dataset": "digits", "network": "resnet20", "variant": "l1", "policy": "uniform", "target": "0.5"}


def make(**changes: Any) -> definition.Suite:
    return reading.from_config({**SUITE, **changes}, "here")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm, "ceiling", lambda _: (None, None))


@pytest.mark.parametrize(
    ("where", "visible", "limit"),
    [(HERE, "", 0), (HERE, "0", 3), (HERE, "0,1", 6), (QUEUED, "", 4), (JOB, "", 0), (JOB, "0", 4), (JOB, "0,1", 4)],
)
def test_slots_are_of_this_machine_s_gpus_or_of_a_queue_entry(
    monkeypatch: pytest.MonkeyPatch, where: Where, visible: str, limit: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_limit(make(), where, 3) == limit


def test_cores_are_shared_by_what_may_run_side_by_side() -> None:
    jobs = Jobs(make(), HERE, gpus=False)
    # 8 settings, 2 dense networks
    assert (jobs.all_cores, jobs.threads_of_dense, jobs.threads_of_setting) == (8, 4, 1)
    few = Jobs(make(methods=["daar"], seeds=[0]), HERE, gpus=False)
    assert (few.threads_of_dense, few.threads_of_setting) == (8, 4)
    # our policies only count, one that a method brings may run the network
    assert few.threads_of_plan(Wildcards(fromdict={"policy": "uniform"})) == 1
    assert few.threads_of_plan(Wildcards(fromdict={"policy": "adaptive"})) == 4
    assert Jobs(make(), Where(), gpus=False).all_cores == 1  # before Snakemake knows of any


@pytest.mark.parametrize(("where", "threads"), [(QUEUED, 6), (JOB, 6), (Where(on_cluster=True), 1)])
def test_on_a_cluster_every_job_has_the_threads_that_were_set(where: Where, threads: int) -> None:
    jobs = Jobs(make(), where, gpus=False)
    assert {jobs.all_cores, jobs.threads_of_dense, jobs.threads_of_setting} == {threads}


def test_a_training_in_several_processes() -> None:
    here, queued = Jobs(make(), HERE, gpus=True), Jobs(make(), QUEUED, gpus=True)
    assert (here.nodes, queued.nodes) == (1, 2)
    assert here.processes["launch"].endswith("--standalone --nproc-per-node=4 --no-python python -P -m daar")
    assert queued.processes["launch"].startswith("srun --nodes=2 ")
    assert here.processes["gpu"] == queued.processes["gpu"] == 4
    assert "mpi" not in here.processes
    assert (queued.processes["mpi"], queued.processes["slurm_extra"]) == ("srun", "--gpus-per-node=2")
    assert [here.processes["threads_each"](None, threads) for threads in (9, 4, 1)] == [2, 1, 1]
    assert [queued.processes["threads_each"](None, threads) for threads in (9, 4, 1)] == [4, 2, 1]
    single = Jobs(reading.from_config({k: v for k, v in SUITE.items() if k != "distributed"}, "here"), HERE, gpus=True)
    assert (single.processes["gpu"], single.processes["launch"]) == (1, "python -P -m daar")
    assert single.processes["threads_each"](None, 5) == 5


def test_what_is_timed_has_its_node_alone() -> None:
    assert Jobs(make(), QUEUED, gpus=True).alone == {"slurm_extra": "--exclusive"}
    assert Jobs(make(), HERE, gpus=True).alone == {}


def test_time_and_memory_follow_from_what_was_measured() -> None:
    suite = make()
    costed = (
        Cost("finetune", "digits", "resnet20", 2, 3540.0, "l1", "uniform", 0.5),
        Cost("plan", "digits", "resnet20", 2, 1740.0, "daar", "adaptive", None),
        Cost("train", "digits", "resnet20", 2, 540.0),
    )
    costs.write(Path("results/small/costs.json"), Measured(costs.fingerprint(suite), "cpu", "x", 4, 2000, costed))
    jobs = Jobs(suite, QUEUED, gpus=False)
    assert jobs.unmeasured is None
    cell = Wildcards(fromdict={**CELL, "seed": "1", "scope": "all"})
    # twice the time, and two minutes to start
    assert [jobs.minutes("finetune")(cell, attempt) for attempt in (1, 2)] == [120, 240]
    assert jobs.minutes("finetune", times=2)(cell, 1) == 238
    own = Wildcards(fromdict={**CELL, "variant": "daar", "policy": "adaptive", "target": "own"})
    assert jobs.minutes("plan")(own, 1) == 60
    dense = Wildcards(fromdict={"dataset": "digits", "network": "resnet20", "recipe": "x", "seed": "1"})
    assert jobs.minutes("train")(dense, 1) == 20
    # 1.25 times, in steps of 256; digits are small
    assert [jobs.memory(cell, attempt) for attempt in (1, 2)] == [2560, 5120]


def test_without_measurements_it_says_so() -> None:
    assert Jobs(make(), HERE, gpus=True).unmeasured == "no results/small/costs.json yet"


@pytest.mark.parametrize(("where", "first", "second"), [(QUEUED, 12, 15), (JOB, 12, 24), (HERE, 12, 24)])
def test_a_retry_asks_for_no_more_than_its_partition_has_and_only_who_submits_looks(
    monkeypatch: pytest.MonkeyPatch, where: Where, first: int, second: int
) -> None:
    monkeypatch.setattr(slurm, "ceiling", lambda name: {"gpu": (99999, 15)}[name])
    jobs = Jobs(make(), where, gpus=True, partition="gpu")
    cell = Wildcards(fromdict=CELL)
    assert [jobs.minutes("record")(cell, attempt) for attempt in (1, 2)] == [first, second]


@pytest.mark.parametrize(("where", "slots", "granted"), [(HERE, 3, None), (QUEUED, 1, None), (JOB, 1, "1")])
def test_jobs_have_this_interpreter_and_the_suite_s_slots(
    monkeypatch: pytest.MonkeyPatch, where: Where, slots: int, granted: str | None
) -> None:
    for name in (gpu.SLOTS, gpu.GRANTED):
        monkeypatch.delenv(name, raising=False)
    assert export_environment(make(slots_per_gpu=3), where) == slots
    assert (os.environ[gpu.SLOTS], os.environ.get(gpu.GRANTED)) == (str(slots), granted)
    assert os.environ["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_jobs_find_data_where_the_suite_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAAR_DATA_ROOT", "elsewhere")
    export_environment(make(), HERE)
    assert os.environ["DAAR_DATA_ROOT"] == "elsewhere"
    export_environment(make(data_root="o'brien $(data)"), HERE)
    assert os.environ["DAAR_DATA_ROOT"] == "o'brien $(data)"


def test_slots_that_are_no_number_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpu.SLOTS, "many")
    with pytest.raises(InputError, match="got 'many'"):
        export_environment(make(), HERE)
