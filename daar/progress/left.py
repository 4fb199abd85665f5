"""How long a run will still take, by what its jobs have taken so far."""

from collections import Counter
from dataclasses import dataclass

from daar.progress.state import IN_PARTS, TRAININGS, Job, Run

# by how much jobs differ while it says nothing
_LATE_SECONDS = 10.0


@dataclass(frozen=True)
class Left:
    """Seconds that are left; `least` where it may be much more, as nobody knows yet what a kind of job takes."""

    seconds: float
    least: bool


def estimate(run: Run, now: float) -> Left | None:
    """How long it will take, as many jobs at once as so far; None before anything is known.

    A job takes what those of its rule have taken on average; before one has ended, a training what its epochs say.

    Args:
        run: so far.
        now: seconds since 1970.
    """
    running = {job.number: _rest(run, job, now) for job in run.running.values()}
    waiting = run.counts - Counter(job.rule for job in run.running.values())
    waiting -= Counter({rule: len(took) for rule, took in run.took.items()})
    takes = {rule: _takes(run, rule) for rule in waiting}
    known = [seconds for seconds in (*running.values(), *takes.values()) if seconds is not None]
    if not known:
        return None
    at_work = sum(rest or 0.0 for rest in running.values())
    work = at_work + sum(count * (takes[rule] or 0.0) for rule, count in waiting.items())
    unknown = {rule for rule, seconds in takes.items() if seconds is None}
    unknown |= {job.rule for job in run.running.values() if running[job.number] is None}
    longest = max((rest or 0.0 for rest in running.values()), default=0.0)
    overdue = any(_is_overdue(run, job, now) for job in run.running.values())
    return Left(max(work / _at_once(run, now), longest), overdue or any(map(_is_long, unknown)))


def _is_overdue(run: Run, job: Job, now: float) -> bool:
    """Whether a job takes longer than those before it: what a rule takes depends on method and network."""
    mean = _mean(run, job.rule)
    return job.epoch is None and mean is not None and now - job.since > mean + _LATE_SECONDS


def _is_long(rule: str) -> bool:
    return rule in (*TRAININGS, *IN_PARTS) or rule.startswith("score")


def _rest(run: Run, job: Job, now: float) -> float | None:
    """Seconds until a job at work ends."""
    if job.epoch:
        return max(0.0, job.epoch.ends - now)
    mean = _mean(run, job.rule)
    return None if mean is None else max(0.0, mean - (now - job.since))


def _takes(run: Run, rule: str) -> float | None:
    """Seconds that a job of a rule takes."""
    if (mean := _mean(run, rule)) is not None:
        return mean
    at_work = (job for job in run.running.values() if job.rule == rule)
    return next((job.epoch.ends - job.since for job in at_work if job.epoch), None)


def _mean(run: Run, rule: str) -> float | None:
    took = run.took.get(rule)
    return sum(took) / len(took) if took else None


def _at_once(run: Run, now: float) -> float:
    """Jobs at work at a time, on average so far."""
    if run.began is None:
        return 1.0
    busy = sum(map(sum, run.took.values())) + sum(now - job.since for job in run.running.values())
    return max(1.0, busy / max(1.0, now - run.began))
