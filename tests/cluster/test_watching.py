"""No job is forgotten when Slurm does not answer, with a stand-in that forgets as the executor does."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from snakemake_executor_plugin_slurm import Executor as SlurmExecutor

from daar.cluster.watching import keep_watching


def executor() -> Any:
    class Executor:
        """Knows what `answers` says of each job; None: the question failed."""

        def __init__(self, answers: dict[str, str] | None) -> None:
            self.answers = answers
            self.ended: list[str] = []
            settings = SimpleNamespace(seconds_between_status_checks=15)
            self.workflow = SimpleNamespace(remote_execution_settings=settings)
            self.next_seconds_between_status_checks = 15

        async def check_active_jobs(self, active_jobs: list[str]) -> AsyncIterator[str]:
            if self.answers is None:
                return
            ended = "success" in self.answers.values()
            self.next_seconds_between_status_checks = 2 if ended else self.next_seconds_between_status_checks + 10
            for job in active_jobs:
                if self.answers[job] == "running":
                    yield job
                else:
                    getattr(self, f"report_job_{self.answers[job]}")(job)

        def report_job_success(self, job: str) -> None:
            self.ended.append(job)

        def report_job_error(self, job: str, msg: str = "") -> None:
            self.ended.append(job + msg)

    return Executor


def asked(running: Any, jobs: list[str]) -> list[str]:
    async def collect() -> list[str]:
        return [job async for job in running.check_active_jobs(jobs)]

    return asyncio.run(collect())


def test_jobs_are_watched_on_when_a_question_fails() -> None:
    kind = executor()
    assert asked(kind(None), ["a", "b"]) == []  # as the executor is
    keep_watching(kind)
    keep_watching(kind)
    assert asked(kind(None), ["a", "b"]) == ["a", "b"]


def test_what_has_ended_is_reported_once_and_not_watched() -> None:
    kind = executor()
    keep_watching(kind)
    running = kind({"a": "running", "b": "success", "c": "error"})
    assert asked(running, ["a", "b", "c"]) == ["a"]
    assert running.ended == ["b", "c"]
    assert not {"report_job_success", "report_job_error"} & set(vars(running))


def test_jobs_are_asked_for_as_often_as_was_set() -> None:
    kind = executor()
    forgetful = kind({"a": "running"})
    assert (asked(forgetful, ["a"]), forgetful.next_seconds_between_status_checks) == (["a"], 25)  # as the executor is
    keep_watching(kind)
    running = kind({"a": "running"})
    for _ in range(3):
        assert asked(running, ["a"]) == ["a"]
        assert running.next_seconds_between_status_checks == 15
    running.answers = {"a": "success"}
    assert asked(running, ["a"]) == []
    assert running.next_seconds_between_status_checks == 2  # sooner, once a job has ended, as the executor has it


def test_the_executor_has_what_is_relied_on() -> None:
    for name in ("check_active_jobs", "report_job_success", "report_job_error"):
        assert callable(getattr(SlurmExecutor, name))
    assert isinstance(SlurmExecutor.next_seconds_between_status_checks, property)
