"""No job is forgotten when Slurm does not answer, with a stand-in that forgets as the executor does."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from snakemake_executor_plugin_slurm import Executor as SlurmExecutor

from daar.cluster.watching import keep_watching


def executor() -> Any:
    class Executor:
        """Knows what `answers` says of each job; None: the question failed."""

        def __init__(self, answers: dict[str, str] | None) -> None:
            self.answers = answers
            self.ended: list[str] = []

        async def check_active_jobs(self, active_jobs: list[str]) -> AsyncIterator[str]:
            if self.answers is None:
                return
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


def test_the_executor_has_what_is_relied_on() -> None:
    for name in ("check_active_jobs", "report_job_success", "report_job_error"):
        assert callable(getattr(SlurmExecutor, name))
