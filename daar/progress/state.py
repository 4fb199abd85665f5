"""What a run has done and does, by the records of Snakemake's log."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from logging import ERROR, WARNING, LogRecord
from typing import Any, cast

from snakemake_interface_logger_plugins.common import LogEvent

from daar.progress import logs
from daar.progress.logs import Epoch

# rules that end a setting and a dense network; those that take a kept record; those told of once all of them are done
SETTINGS, DENSE, KEPT = ("record", "record_scratch", "record_scheduled"), ("measure",), ("reuse", "reuse_scratch")
STAGES = {"latency": "latencies measured", "stability": "stability measured"}
# trainings, whose logs have epochs; those that have them too, but of parts, which do not say when the whole ends
TRAININGS, IN_PARTS = ("train", "finetune", "scratch"), ("schedule",)
# attribute of the record by which the workflow names the variants that a suite has with several policies
AMBIGUOUS = "daar_ambiguous"
# which of Snakemake's own messages are no news: failed jobs are told of one by one
_KNOWN = ("At least one job did not complete successfully", "Exiting because a job execution failed")
_STOPS = ("Terminating processes on user request", "Will exit after finishing currently running jobs")
_ENDED = re.compile(r"returned non-zero exit status (\d+)|died with <Signals\.(SIG\w+)")


@dataclass(frozen=True)
class Notice:
    """Something to say once.

    Attributes:
        kind: `news`, which `--quiet` leaves out, or `warning`, `failure`, `error`.
        text: one line, or what Snakemake has to say in several.
    """

    kind: str
    text: str


@dataclass
class Job:
    """A job at work.

    Attributes:
        number: Snakemake's.
        rule: its name.
        wildcards: name → value.
        logs: its files.
        since: when it was started or submitted, in seconds since 1970.
        epoch: how far it was when its log was last looked at, if it is a training that has ended an epoch.
    """

    number: int
    rule: str
    wildcards: Mapping[str, str]
    logs: tuple[str, ...]
    since: float
    epoch: Epoch | None = None

    @property
    def subject(self) -> tuple[str, ...]:
        """What it works on: the same for all jobs of a setting, or of a dense network."""
        return tuple(f"{name}={value}" for name, value in sorted(self.wildcards.items()))

    def look(self) -> None:
        """Read how far it is."""
        if self.rule in TRAININGS:
            self.epoch = self._last_epoch()

    def val(self) -> str | None:
        """The last accuracy that its log tells of, in %, once it is done; None where it tells of none."""
        epoch = self._last_epoch() if self.rule in (*TRAININGS, *IN_PARTS) else None
        return epoch.val if epoch else None

    def _last_epoch(self) -> Epoch | None:
        return next((epoch for log in self.logs if (epoch := logs.last_epoch(log))), None)


@dataclass
class Run:
    """A run; `note` is given the records in their order.

    Attributes:
        began: when it began, in seconds since 1970; None before.
        counts: rule → jobs that are to be done.
        done: jobs that are done.
        total: jobs in all.
        running: number of a job → the job.
        failed: numbers of the jobs that have failed and are not tried again.
        stopping: whether it was interrupted, and waits for jobs that save their state.
        log: Snakemake's own log of it, once it ends.
        ambiguous: variants that the suite has with several policies.
    """

    began: float | None = None
    counts: Counter[str] = field(default_factory=Counter)
    done: int = 0
    total: int = 0
    running: dict[int, Job] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    stopping: bool = False
    log: str = ""
    ambiguous: frozenset[str] = frozenset()
    # rule → seconds of each of its jobs that are done
    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _spent: Counter[tuple[str, ...]] = field(default_factory=Counter)
    _val: dict[tuple[str, ...], str] = field(default_factory=dict)
    _datasets: set[str] = field(default_factory=set)
    _told: bool = False
    _said: dict[int, str] = field(default_factory=dict)
    # of the last group of jobs that failed; why the command of a job ended, which is told before the job is named
    _group: set[int] = field(default_factory=set)
    _ended: str = ""

    def note(self, record: LogRecord) -> list[Notice]:
        """Follow a record of Snakemake's log; returns what is to be said."""
        if self.began is None:
            self.began = record.created
        if (ambiguous := getattr(record, AMBIGUOUS, None)) is not None:
            self.ambiguous = frozenset(ambiguous)
            return []
        handlers: dict[Any, Callable[[Any], list[Notice]]] = {
            LogEvent.RUN_INFO: self._planned,
            LogEvent.JOB_INFO: self._started,
            LogEvent.JOB_FINISHED: self._finished,
            LogEvent.PROGRESS: self._progressed,
            LogEvent.JOB_ERROR: self._job_failed,
            LogEvent.GROUP_ERROR: self._group_failed,
            LogEvent.ERROR: self._message,
            None: self._message,
        }
        handle = handlers.get(getattr(record, "event", None))
        return handle(record) if handle else []

    @property
    def started(self) -> bool:
        """Whether its first job has been started."""
        return self._told

    def label(self, job: Job) -> str:
        """What a job works on, as the lines of its log begin; with dataset and policy where there are several."""
        given = job.wildcards
        parts = [given.get("network", "")]
        if "network" not in given or len(self._datasets) > 1:
            parts.insert(0, given.get("dataset", ""))
        if "seed" in given:
            parts += ["seed", given["seed"], self._variant(given) or ("dense" if "recipe" in given else "")]
        elif "variant" in given:
            parts.append(self._variant(given))
        return " ".join(filter(None, (*parts, given.get("target", given.get("setting", "")))))

    def _variant(self, given: Mapping[str, str]) -> str:
        variant = given.get("variant", "")
        return f"{variant}, {given['policy']}" if variant in self.ambiguous and "policy" in given else variant

    def _planned(self, record: Any) -> list[Notice]:
        self.counts = Counter({rule: int(count) for rule, count in record.stats.items() if rule != "total"})
        self.total = int(record.stats.get("total", self.counts.total()))
        return []

    def _started(self, record: Any) -> list[Notice]:
        wildcards = {name: str(value) for name, value in (record.wildcards or {}).items()}
        job = Job(int(record.jobid), record.rule_name, wildcards, tuple(map(str, record.log or ())), record.created)
        self.running[job.number] = job
        self._datasets.update(filter(None, [wildcards.get("dataset")]))
        if self._told:
            return []
        self._told = True  # not before: what is checked before the first job may end the run
        settings = self._jobs((*SETTINGS, *KEPT))
        for_ = f" for {_count(settings, 'setting')}" if settings else ""
        return [Notice("news", f"daar: {_count(self.total, 'job')} to do{for_}")]

    def _finished(self, record: Any) -> list[Notice]:
        job = self.running.pop(record.job_id, None)
        if job is None:
            return []
        self.done += 1
        seconds = record.created - job.since
        self.took[job.rule].append(seconds)
        self._spent[job.subject] += seconds
        if val := job.val():
            self._val[job.subject] = val
        return self._news(job)

    def _news(self, job: Job) -> list[Notice]:
        """What is finished with this job: a setting, a dense network, a stage; else nothing."""
        done = len(self.took[job.rule])
        if job.rule in SETTINGS or job.rule in DENSE:
            val = f"val {self._val[job.subject]}, " if job.subject in self._val else ""
            return [Notice("news", f"{self.label(job)}: {val}done in {clock(self._spent[job.subject])}")]
        if job.rule in KEPT:
            kept = sum(len(self.took[rule]) for rule in KEPT)
            return [Notice("news", f"{_count(kept, 'kept record')} taken")] if kept == self._jobs(KEPT) else []
        if job.rule in STAGES and done == self.counts[job.rule]:
            return [Notice("news", f"{STAGES[job.rule]}: {_count(done, 'job')}")]
        if job.rule == "pack":
            return [Notice("news", f"{self.label(job)}: packed in {clock(self._spent[job.subject])}")]
        return [Notice("news", "tables, figures and page made")] if job.rule == "page" else []

    def _jobs(self, rules: Iterable[str]) -> int:
        return sum(self.counts[rule] for rule in rules)

    def _progressed(self, record: Any) -> list[Notice]:
        self.done, self.total = int(record.done), int(record.total)
        return []

    def _job_failed(self, record: Any) -> list[Notice]:
        number, ended, self._ended = int(record.jobid), self._ended, ""
        job = self.running.pop(number, None)
        if getattr(record, "indent", False):  # of a group, which is told of as one
            return []
        return self._failure(number, job, record.__dict__, ended, _last_lines(record))

    def _group_failed(self, record: Any) -> list[Notice]:
        """Tell of the job of a group that has written last: those behind it never started."""
        self._group = {int(info["jobid"]) for info in record.job_error_info}
        last = _last_lines(record)
        written = [info for info in record.job_error_info if any(last[str(log)] for log in info["log"])]
        if not written:
            self.failed |= self._group
            return [Notice("failure", f"{record.getMessage()}, before its first job said anything")]
        info = max(written, key=lambda info: max(last[str(log)].written for log in info["log"]))
        return self._failure(int(info["jobid"]), self.running.get(int(info["jobid"])), info, "", last)

    def _failure(
        self, number: int, job: Job | None, given: Mapping[str, Any], ended: str, last: Mapping[str, logs.LastLine]
    ) -> list[Notice]:
        lines = [line.text for log in given["log"] or () if (line := last[str(log)])]
        if any(map(logs.was_interrupted, lines)):
            self.stopping = True
            return []
        self.failed.add(number)
        words = lines[0] if lines else given.get("rule_msg") or "it said nothing"
        # a stage that ends by itself says why; a killed one cannot
        how = f" ({ended})" if ended and not words.startswith("daar: error") else ""
        where = f" [{given['log'][0]}]" if given["log"] else ""
        what = " ".join(filter(None, (given["rule_name"], self.label(job) if job else "")))
        text = f"{what} failed{how}: {words}{where}"
        if self._said.get(number) == text:  # tried again, to the same end
            return []
        self._said[number] = text
        return [Notice("failure", text)]

    def _message(self, record: LogRecord) -> list[Notice]:
        text = record.getMessage()
        if getattr(record, "exception", None) == "RuleException" and (found := _ENDED.search(text)):
            self._ended = f"exit code {found[1]}" if found[1] else str(found[2])
            return []
        if any(known in text for known in _KNOWN):
            return []
        if record.levelno >= WARNING:
            return [Notice("error" if record.levelno >= ERROR else "warning", text.strip())]
        return self._information(text)

    def _information(self, text: str) -> list[Notice]:
        """Of what Snakemake says about itself little is news."""
        if text.startswith(_STOPS):
            self.stopping = True
        elif again := re.match(r"Trying to restart job (.+)\.$", text):
            self.failed -= {int(again[1])} if again[1].isdecimal() else self._group
        elif text.startswith("Complete log(s): "):
            self.log = text.removeprefix("Complete log(s): ")
        elif text.startswith("Nothing to be done"):
            return [Notice("news", "daar: nothing to do: all results are there, and current")]
        elif text.startswith("daar: "):
            return [Notice("news", text)]
        return []


def look_at_once(record: Any) -> None:
    """Add to the record of a failure what its logs say, before the retried job overwrites its log."""
    if getattr(record, "event", None) in (LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR):
        record.last_lines = _last_lines(record)


def _last_lines(record: Any) -> Mapping[str, logs.LastLine]:
    """Log → its last line; those that were added to the record, or as they are now."""
    if added := getattr(record, "last_lines", None):
        return cast("Mapping[str, logs.LastLine]", added)
    infos = record.job_error_info if record.event == LogEvent.GROUP_ERROR else [record.__dict__]
    return {str(log): logs.last_line(str(log)) for info in infos for log in info["log"] or ()}


def clock(seconds: float) -> str:
    """Seconds as 0:42, 3:20, 5:12:00, or 2 d 3 h."""
    whole = max(0, round(seconds))
    if whole >= 48 * 3600:
        return f"{whole // 86400} d {whole % 86400 // 3600} h"
    minutes = f"{whole % 3600 // 60}:{whole % 60:02d}"
    return minutes if whole < 3600 else f"{whole // 3600}:{minutes.rjust(5, '0')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
