"""What is said of a run, by the records of Snakemake's log."""

import logging
import os
import re
from pathlib import Path

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from daar.progress import state
from daar.progress.state import Run, clock
from daar.storage.bundled import ROOT
from tests.progress.events import (
    DENSE,
    SETTING,
    command_ended,
    failed,
    finished,
    message,
    planned,
    record,
    said,
    started,
)

SCORED = {key: value for key, value in SETTING.items() if key not in ("policy", "scope", "target")}
EPOCH = "resnet20 seed 0 l1 0.7: epoch 2/2  lr 0.0000  loss 0.9056  train 76.29  val 75.56  10.1 s  ETA 0 s\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_line_for_each_setting_and_dense_network_and_for_no_other_job() -> None:
    Path("finetune.log").write_text(EPOCH)
    run = Run()
    assert (
        said(run, message("Building DAG of jobs..."), planned(pack=1, train=1, measure=1, plan=1, finetune=1, record=1))
        == []
    )
    lines = said(
        run,
        started(1, "pack", 2, {"dataset": "digits"}, "pack.log"), finished(1, 4),
        started(2, "train", 4, DENSE, "train.log"), finished(2, 34),
        started(3, "measure", 34, DENSE, "measure.log"), started(4, "plan", 34, SETTING, "plan.log"),
        finished(3, 36), finished(4, 36),
        started(5, "finetune", 36, SETTING, "finetune.log"), finished(5, 46),
        started(6, "record", 46, SETTING, "record.log"), finished(6, 47),
    )  # fmt: skip
    assert [text for _, text in lines] == [
        "daar: 6 jobs to do for 1 setting",
        "digits: packed in 0:02",
        "resnet20 seed 0 dense: done in 0:32",  # no epoch in its log
        "resnet20 seed 0 l1 0.7: val 75.56, done in 0:13",
    ]
    assert {kind for kind, _ in lines} == {"news"}
    assert (run.done, run.total, run.running, run.failed) == (6, 6, {}, set())


def test_a_setting_of_any_schedule_is_counted_and_told_of_with_its_last_accuracy() -> None:
    Path("schedule.log").write_text(EPOCH)  # of its last round
    run, scratch = Run(), {**SETTING, "variant": "l1-scratch"}
    said(run, planned(schedule=1, record_scheduled=1, record_scratch=1, record=1, reuse=2))
    lines = said(
        run,
        started(1, "schedule", 2, SETTING, "schedule.log"), finished(1, 12),
        started(2, "record_scheduled", 12, SETTING, "record.log"), finished(2, 13),
        started(3, "record_scratch", 13, scratch, "record.log"), finished(3, 15),
    )  # fmt: skip
    assert [text for _, text in lines] == [
        "daar: 6 jobs to do for 5 settings",
        "resnet20 seed 0 l1 0.7: val 75.56, done in 0:11",
        "resnet20 seed 0 l1-scratch 0.7: done in 0:02",
    ]


def test_every_rule_that_ends_a_setting_is_told_of() -> None:
    """Rules whose output is a record, and those that inherit from them, be it with another output."""
    text = "".join(file.read_text() for file in (ROOT / "workflow" / "rules").glob("*.smk"))
    rules = re.split(r"^ *(?=rule \w+:|use rule \w+ as )", text, flags=re.MULTILINE)
    ends = [rule for rule in rules if "/record.json" in rule.partition("output:")[2].partition("log:")[0]]
    named = {match[1] for rule in ends if (match := re.match(r"rule (\w+):", rule))}
    inherit = re.findall(r"use rule (\w+) as (\w+)", text)
    assert {*state.SETTINGS, *state.KEPT} == named | {name for base, name in inherit if base in named}


@pytest.mark.parametrize("rule", ["finetune", "record", "record_scheduled"])
def test_the_policy_is_named_where_the_suite_has_several_for_a_variant(rule: str) -> None:
    Path("job.log").write_text("daar: error: no space left\n")
    run = Run()
    said(run, planned(**{rule: 3}), record(None, 1, "", logging.DEBUG, **{state.AMBIGUOUS: ["l1"]}))
    said(run, started(1, rule, 2, {**SETTING, "policy": "adaptive"}, "job.log"), started(2, "score", 2, SCORED))
    said(run, started(3, rule, 2, {**SETTING, "variant": "fpgm"}))
    assert [run.label(job) for job in run.running.values()] == [
        "resnet20 seed 0 l1, adaptive 0.7",
        "resnet20 seed 0 l1",
        "resnet20 seed 0 fpgm 0.7",
    ]
    (failure,) = said(run, failed(1, rule, 3, "job.log"))
    assert failure[1] == f"{rule} resnet20 seed 0 l1, adaptive 0.7 failed: daar: error: no space left [job.log]"


def test_what_snakemake_counts_wins_over_what_was_counted_here() -> None:
    run = Run()
    said(run, planned(train=3), started(1, "train", 1, DENSE), finished(1, 2))
    assert (run.done, run.total) == (1, 3)
    said(run, record(LogEvent.PROGRESS, 3, done=2, total=5))
    assert (run.done, run.total) == (2, 5)


def test_kept_records_and_latencies_are_told_of_once_all_are_there() -> None:
    run = Run()
    said(run, planned(reuse=2, reuse_scratch=1, latency=2))
    paths = [{"setting": f"digits/resnet20/seed{seed}/l1/uniform-all-0.7"} for seed in range(3)]
    rules = ["reuse", "reuse", "reuse_scratch", "latency", "latency"]
    jobs = [(n, rule, paths[n] if n < 3 else SETTING) for n, rule in enumerate(rules)]
    said(run, *(started(n, rule, 2, wildcards) for n, rule, wildcards in jobs))
    assert run.label(run.running[2]) == "digits/resnet20/seed2/l1/uniform-all-0.7"
    assert said(run, *(finished(n, 3) for n in range(5))) == [
        ("news", "3 kept records taken"),
        ("news", "latencies measured: 2 jobs"),
    ]


def test_the_dataset_is_named_where_there_are_several() -> None:
    run = Run()
    said(run, planned(train=2), started(1, "train", 1, DENSE))
    assert run.label(run.running[1]) == "resnet20 seed 0 dense"
    said(run, started(2, "train", 1, {**DENSE, "dataset": "cifar10"}))
    assert [run.label(job) for job in run.running.values()] == [
        "digits resnet20 seed 0 dense",
        "cifar10 resnet20 seed 0 dense",
    ]


def test_a_failure_is_the_last_line_of_its_log_said_once_however_often_it_is_tried() -> None:
    Path("train.log").write_text("epoch 1\ndaar: error: the loss is nan. Lower lr in the recipe.\n\n")
    run = Run()
    said(run, planned(train=2))
    lines = []
    for at in (2, 4, 6):
        lines += said(run, started(3, "train", at, DENSE, "train.log"))
        lines += said(
            run, command_ended("returned non-zero exit status 2", at + 1), failed(3, "train", at + 1, "train.log")
        )
        assert run.failed == {3}
        if at < 6:
            lines += said(run, message("Trying to restart job 3."))
            assert run.failed == set()
    assert lines[1:] == [
        (
            "failure",
            "train resnet20 seed 0 dense failed: daar: error: the loss is nan. Lower lr in the recipe. [train.log]",
        )
    ]
    assert (run.failed, run.running) == ({3}, {})
    last = message("Exiting because a job execution failed. Look above for error messages", level=logging.ERROR)
    end = "WorkflowError:\nAt least one job did not complete successfully."
    assert said(run, last, record(LogEvent.ERROR, 9, end, logging.ERROR, exception="WorkflowError")) == []


def test_a_failure_is_what_the_log_said_then_and_not_what_the_next_try_wrote() -> None:
    Path("train.log").write_text("daar: error: no space left\n")
    failure, run = failed(3, "train", 2, "train.log"), Run()
    state.look_at_once(failure)
    Path("train.log").write_text("")
    said(run, planned(train=1), started(3, "train", 1, DENSE, "train.log"))
    assert said(run, failure) == [
        ("failure", "train resnet20 seed 0 dense failed: daar: error: no space left [train.log]")
    ]


@pytest.mark.parametrize(
    ("how", "words"),
    [("died with <Signals.SIGKILL: 9>", "SIGKILL"), ("returned non-zero exit status 137", "exit code 137")],
)
def test_a_job_that_could_not_say_why_is_spoken_for(how: str, words: str) -> None:
    Path("train.log").write_text("epoch 1/2\n")
    run = Run()
    said(run, planned(train=1), started(3, "train", 1, DENSE, "train.log"), command_ended(how, 2))
    assert (
        said(run, failed(3, "train", 2, "train.log"))[0][1]
        == f"train resnet20 seed 0 dense failed ({words}): epoch 1/2 [train.log]"
    )
    # how one job ended is not said of the next
    said(run, started(4, "mine", 3, {}))
    assert said(run, failed(4, "mine", 4)) == [("failure", "mine failed: it said nothing")]
    assert said(run, failed(5, "mine", 4, rule_msg="the node is gone")) == [
        ("failure", "mine failed: the node is gone")
    ]


def test_of_a_group_the_job_that_wrote_last_is_told_of() -> None:
    """As on a cluster: jobs of one queue entry, of which the second failed and the third never started."""
    for at, (name, text) in enumerate({"plan": "planned\n", "finetune": "daar: error: no space left\n"}.items()):
        Path(f"{name}.log").write_text(text)
        os.utime(f"{name}.log", (at, at))
    run, rules = Run(), ("plan", "finetune", "record")
    said(
        run,
        planned(plan=1, finetune=1, record=1),
        *(started(n, rule, 1, SETTING, f"{rule}.log") for n, rule in enumerate(rules)),
    )
    infos = [{"jobid": n, "rule_name": rule, "rule_msg": None, "log": [f"{rule}.log"]} for n, rule in enumerate(rules)]
    given = {"groupid": "tuning-digits", "aux_logs": [], "job_error_info": infos}
    lines = said(
        run, record(LogEvent.GROUP_ERROR, 5, "Error in group tuning-digits", logging.ERROR, **given),
        *(failed(n, rule, 5, f"{rule}.log", indent=True) for n, rule in enumerate(rules)),
    )  # fmt: skip
    assert lines == [("failure", "finetune resnet20 seed 0 l1 0.7 failed: daar: error: no space left [finetune.log]")]
    assert (run.failed, run.running) == ({1}, {})
    said(run, message("Trying to restart job 8b2f-group."))
    assert run.failed == set()
    for name in ("plan", "finetune"):
        Path(f"{name}.log").unlink()
    lines = said(run, record(LogEvent.GROUP_ERROR, 5, "Error in group tuning-digits", logging.ERROR, **given))
    assert lines == [("failure", "Error in group tuning-digits, before its first job said anything")]


@pytest.mark.parametrize(
    "last",
    ["daar: SIGTERM: saved after epoch 1 of 50; the same command goes on.", "daar: interrupted at once; it goes on."],
)
def test_a_job_that_was_interrupted_has_not_failed(last: str) -> None:
    Path("train.log").write_text(f"{last}\n")
    run = Run()
    said(run, planned(train=1), started(3, "train", 1, DENSE, "train.log"))
    assert said(run, command_ended("returned non-zero exit status 130", 2), failed(3, "train", 2, "train.log")) == []
    assert (run.stopping, run.failed) == (True, set())


def test_little_of_what_snakemake_says_is_news() -> None:
    run = Run()
    nothing = ["Using shell: /usr/bin/bash", "Select jobs to execute...", "Conda environments: ignored", "None"]
    assert said(run, *map(message, nothing)) == []
    assert said(run, message("Nothing to be done (all requested files are present and up to date).")) == [
        ("news", "daar: nothing to do: all results are there, and current")
    ]
    assert said(run, message("daar: 7 of 8 settings have a record")) == [
        ("news", "daar: 7 of 8 settings have a record")
    ]
    assert said(run, message("a warning\n", level=logging.WARNING)) == [("warning", "a warning")]
    locked = "LockException:\nError: Directory cannot be locked."
    assert said(run, record(LogEvent.ERROR, 1, locked, logging.ERROR, exception="LockException")) == [("error", locked)]
    assert not run.stopping
    said(run, message("Terminating processes on user request, this might take some time."))
    assert run.stopping
    said(run, message("Complete log(s): /a/b.snakemake.log"))
    assert run.log == "/a/b.snakemake.log"


def test_rules_that_are_named_here_are_rules() -> None:
    text = "".join(file.read_text() for file in (ROOT / "workflow" / "rules").glob("*.smk"))
    rules = set(re.findall(r"^ *rule (\w+):", text, re.MULTILINE)) | set(re.findall(r"use rule \w+ as (\w+)", text))
    named = {
        *state.SETTINGS,
        *state.DENSE,
        *state.KEPT,
        *state.STAGES,
        *state.TRAININGS,
        *state.IN_PARTS,
        "pack",
        "page",
    }
    assert named <= rules


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0:00"),
        (0.4, "0:00"),
        (59.6, "1:00"),
        (200, "3:20"),
        (3599, "59:59"),
        (18_720, "5:12:00"),
        (183_600, "2 d 3 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert clock(seconds) == text
