"""What is checked before the first job and said after a failed one, with stand-ins for Snakemake's objects."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daar.cluster import slurm, watching
from daar.errors import InputError
from daar.progress.state import AMBIGUOUS
from daar.run import handlers, preflight
from daar.run.dag import Dag
from daar.suite import reading
from tests.run.test_reuse import SMALL, keep_one, make

ROOT = Path(__file__).resolve().parents[2]

# as Snakemake 9.27 writes it
FAILED = """
Error in rule train:
    jobid: 3
    output: a/model.safetensors
    log: {} (check log file(s) for error details)
    shell:
        python -m daar train
"""


def test_the_last_line_of_every_failed_job_s_log_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.log").write_text("epoch 1\ndaar: error: the loss is nan\n")
    Path("two.log").write_bytes(b"daar: error: no space left in caf\xe9\n")
    Path("empty.log").touch()
    tried_again = "".join(FAILED.format(f"{name}.log") for name in ("one", "absent", "empty", "one"))
    Path("snakemake.log").write_text(f"log: two.log\n{tried_again}")
    Path("another.log").write_text(FAILED.format("two.log"))
    said = handlers.last_lines(["snakemake.log", "another.log"])
    assert said == ["one.log: daar: error: the loss is nan", "two.log: daar: error: no space left in caf\\xe9"]
    assert handlers.last_lines([]) == []


def test_failures_are_repeated_unless_the_progress_has_said_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.log").write_text("daar: error: the loss is nan\n")
    Path("snakemake.log").write_text(FAILED.format("one.log"))
    for loggers, said in (
        ({}, "one.log: daar: error: the loss is nan\n"),
        ({"rich": None}, "one.log: daar"),
        ({"daar": None}, ""),
    ):
        settings = SimpleNamespace(log_handler_settings=loggers)
        handlers.tell_failures(SimpleNamespace(output_settings=settings), ["snakemake.log"])
        assert capsys.readouterr().err.startswith(said)
        assert bool(said) == ("daar" not in loggers)


def test_variants_with_several_policies_are_told_to_the_progress_alone(caplog: pytest.LogCaptureFixture) -> None:
    several = {"l1": ["uniform", "adaptive"]}
    config = {**SMALL, "methods": ["l1"], "variants": {"l1-soft": {"method": "l1", "policy": "global"}}}
    dag = Dag(reading.from_config({**config, "policies": several["l1"]}, "here"))
    for loggers, told in (({}, []), ({"daar": None}, [["l1"]])):
        workflow = SimpleNamespace(output_settings=SimpleNamespace(log_handler_settings=loggers))
        handlers._LOGGER.addHandler(caplog.handler)
        handlers.tell_policies(dag, workflow)
        handlers._LOGGER.removeHandler(caplog.handler)
        unique = {id(record): record for record in caplog.records}.values()
        assert [getattr(record, AMBIGUOUS) for record in unique] == told


@dataclass(eq=False)
class Entry:
    """A job or a group, told apart by identity as Snakemake's."""

    is_local: bool
    resources: dict[str, int] = field(default_factory=dict)


def test_a_group_is_submitted_once_and_local_jobs_never() -> None:
    group, alone = (Entry(is_local=False, resources=given) for given in ({"gpu": 1, "runtime": 20}, {"gpu": 2}))
    inside = [Entry(is_local=False), Entry(is_local=False)]
    local = Entry(is_local=True)
    dag = SimpleNamespace(
        needrun_jobs=lambda: [inside[0], local, inside[1], alone],
        get_job_group=lambda job: group if job in inside else None,
    )
    assert handlers.submitted(dag) == [{"gpu": 1, "runtime": 20}, {"gpu": 2}]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What Slurm's checks and the watching were called with."""
    calls: list[Any] = []
    monkeypatch.setattr(watching, "keep_watching", calls.append)
    monkeypatch.setattr(slurm, "require_startable", lambda _, *, status_command: calls.append(status_command))
    monkeypatch.setattr(slurm, "require_shared_folder", lambda request, folder: calls.append((request, folder)))
    return calls


def workflow(*requests: dict[str, int], plugin: str = "slurm") -> Any:
    jobs = [Entry(is_local=False, resources=request) for request in requests]
    return SimpleNamespace(
        dag=SimpleNamespace(needrun_jobs=lambda: jobs, get_job_group=lambda _: None),
        executor_plugin=SimpleNamespace(name=plugin, executor="its class"),
        executor_settings=SimpleNamespace(status_command="squeue"),
    )


def test_slurm_is_asked_before_anything_is_queued(asked: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    handlers.check_cluster(Dag(make()), workflow({"gpu": 1}, {"gpu": 2}), None)
    assert asked == ["its class", "squeue", ({"gpu": 1}, Path("results/small"))]
    assert caplog.messages == []


def test_another_scheduler_is_only_watched(asked: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    handlers.check_cluster(Dag(make()), workflow({"gpu": 1}, plugin="lsf"), "no costs.json yet")
    assert asked == ["its class"]
    (said,) = caplog.messages
    assert said.startswith("daar: no costs.json yet; times and memory that jobs ask for follow from MACs.")


def test_nothing_to_submit_is_nothing_to_check(asked: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    handlers.check_cluster(Dag(make()), workflow(), "no costs.json yet")
    assert (asked, caplog.messages) == ([], [])


@pytest.mark.usefixtures("asked")
def test_what_could_not_be_tried_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(slurm, "require_shared_folder", lambda *_: "no node was free")
    handlers.check_cluster(Dag(make()), workflow({"gpu": 1}), None)
    assert caplog.messages == ["daar: no node was free"]


@pytest.mark.parametrize("on_cluster", [True, False])
def test_a_run_that_cannot_succeed_stops_and_kept_records_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, on_cluster: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO")
    monkeypatch.setattr(preflight, "_has_gpu", lambda: False)
    suite = reading.from_config({**SMALL, "seeds": [0, 1]}, "here")
    handlers.check(Dag(suite), on_cluster=on_cluster)
    assert caplog.messages == []
    dag = Dag(suite)
    keep_one(tmp_path / "results" / "reference", suite, dag.made_from(_wildcards(suite.settings[0])))
    handlers.check(Dag(suite), on_cluster=on_cluster)
    (said,) = caplog.messages
    assert said.startswith("daar: 1 of 2 settings have a record in results/reference/small,")
    assert said.endswith("--config reuse=false runs all here")
    caplog.clear()
    other = reading.from_config({**SMALL, "seeds": [0, 1], "finetune": {**SMALL["finetune"], "lr": 0.001}}, "here")
    handlers.check(Dag(other), on_cluster=on_cluster)
    (said,) = caplog.messages
    assert said.startswith("daar: 0 of 2 settings have a record in results/reference/small that was made")
    gpu_only = Dag(reading.from_config({**SMALL, "allow_cpu": False}, "here"))
    if on_cluster:  # its nodes are unknown here
        handlers.check(gpu_only, on_cluster=True)
    else:
        with pytest.raises(InputError, match="no GPU"):
            handlers.check(gpu_only, on_cluster=False)


def _wildcards(setting: Any) -> dict[str, Any]:
    named = {name: getattr(setting, name) for name in ("dataset", "network", "seed", "policy", "scope", "target")}
    return {**named, "variant": setting.variant.name}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".snakemake").mkdir()
    Path(".snakemake", "daar-runs.lock").mkdir()  # root may write wherever a folder is read-only
    with pytest.raises(InputError, match=r"^\.snakemake/daar-runs\.lock cannot be written \(Is a directory\)"):
        handlers.begin(SimpleNamespace(is_main_process=True, remote_exec=False))


JOBS = """
import threading
from daar.run import handlers
rule all:
    input: expand("{n}.txt", n=range(6))
rule one:
    output: "{n}.txt"
    shell: "touch {output}"
onstart:
    handlers.start_at_any_rate(workflow)
    handlers.let_signals_end(workflow)
    with workflow.scheduler._lock:  # as while it notes that a job has ended
        workflow.scheduler.exit_gracefully()  # its handler of signals
    workflow.scheduler._user_kill = None
onsuccess:
    open("timers", "w").write(str(sum(isinstance(t, threading.Timer) for t in threading.enumerate())))
"""


@pytest.mark.parametrize(("given", "limited"), [([], False), (["--max-jobs-per-timespan", "50/1s"], True)])
def test_jobs_start_at_any_rate_unless_one_is_asked_for(tmp_path: Path, given: list[str], limited: bool) -> None:
    """Of its own limit Snakemake has timers that never end, one more for each job that did."""
    (tmp_path / "Snakefile").write_text(JOBS)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all", *given]
    subprocess.run(command, cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120)
    assert (int((tmp_path / "timers").read_text()) > 0) == limited


def test_other_versions_may_have_no_such_limit() -> None:
    for settings in (SimpleNamespace(max_jobs_per_timespan=None), SimpleNamespace()):
        handlers.start_at_any_rate(SimpleNamespace(scheduling_settings=settings))
