"""Jobs whose state Slurm cannot tell for a while stay watched, and all are asked for at the pace that was set."""

import functools
from collections.abc import AsyncIterator, Sequence
from typing import Any


def keep_watching(executor: type[Any]) -> None:
    """Have an executor of Snakemake's ask again for jobs that it learned nothing about, and never later than was set.

    The Slurm executor (2.8.0) forgets every job once a round of its questions fails, as while the controller restarts,
    and Snakemake then waits for them without end (snakemake-executor-plugin-slurm, issue 207). A job that was reported
    neither as ended nor as running is given back here, so that the next round asks for it.

    It also waits longer after every round in which no job ended, up to three minutes, while nodes may be idle. It asks
    for all jobs in one question, so `--seconds-between-status-checks` is kept.

    Args:
        executor: its class, changed once.
    """
    original = executor.check_active_jobs
    if hasattr(original, "keeps_watching"):
        return

    @functools.wraps(original)
    async def check_active_jobs(self: Any, active_jobs: Sequence[Any]) -> AsyncIterator[Any]:
        known: set[int] = set()

        def noting(report: Any) -> Any:
            def reported(job: Any, *arguments: Any, **options: Any) -> Any:
                known.add(id(job))
                return report(job, *arguments, **options)

            return reported

        self.report_job_success, self.report_job_error = map(noting, (self.report_job_success, self.report_job_error))
        try:
            async for job in original(self, active_jobs):
                known.add(id(job))
                yield job
        finally:
            del self.report_job_success, self.report_job_error
        for job in active_jobs:
            if id(job) not in known:
                yield job
        set_by_user = self.workflow.remote_execution_settings.seconds_between_status_checks
        self.next_seconds_between_status_checks = min(self.next_seconds_between_status_checks, set_by_user)

    check_active_jobs.keeps_watching = True  # type: ignore[attr-defined]
    executor.check_active_jobs = check_active_jobs
