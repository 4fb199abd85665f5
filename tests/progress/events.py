"""Records as Snakemake 9.27 logs them, for tests: a run of a suite, without Snakemake and without time passing."""

import logging
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from daar.progress.state import Notice, Run

BEGAN = 1_000_000.0
DENSE = {"dataset": "digits", "network": "resnet20", "recipe": "c798e8d76de3", "seed": "0"}
SETTING = {
    **{"dataset": "digits", "network": "resnet20", "seed": "0", "variant": "l1"},
    **{"policy": "uniform", "scope": "all", "target": "0.7"},
}


def record(event: LogEvent | None, at: float, message: str = "None", level: int = logging.INFO, **fields: Any) -> Any:
    """A record, `at` seconds after the run began."""
    given = {
        "msg": message,
        "levelno": level,
        "levelname": logging.getLevelName(level),
        "created": BEGAN + at,
        **fields,
    }
    return logging.makeLogRecord(given if event is None else {**given, "event": event})


def message(text: str, at: float = 0.0, level: int = logging.INFO, **fields: Any) -> Any:
    return record(None, at, text, level, **fields)


def planned(**counts: int) -> Any:
    return record(LogEvent.RUN_INFO, 1, stats={**counts, "total": sum(counts.values())})


def started(number: int, rule: str, at: float, wildcards: dict[str, str], *logs: object) -> Any:
    given: dict[str, Any] = {
        "jobid": number,
        "rule_name": rule,
        "wildcards": wildcards,
        "log": [str(log) for log in logs],
    }
    return record(LogEvent.JOB_INFO, at, **given)


def finished(number: int, at: float) -> Any:
    return record(LogEvent.JOB_FINISHED, at, f"Finished jobid: {number}", job_id=number)


def failed(number: int, rule: str, at: float, *logs: object, **fields: Any) -> Any:
    given: dict[str, Any] = {
        "jobid": number,
        "rule_name": rule,
        "rule_msg": None,
        "log": [str(log) for log in logs],
        **fields,
    }
    return record(LogEvent.JOB_ERROR, at, f"Error in rule {rule}, jobid: {number}", logging.ERROR, **given)


def command_ended(how: str, at: float) -> Any:
    """What comes before `failed` where a command ended badly."""
    text = (
        f"RuleException:\nCalledProcessError in file \"dense.smk\", line 34:\nCommand 'python -P -m daar train' {how}."
    )
    return record(LogEvent.ERROR, at, text, logging.ERROR, exception="RuleException")


def said(run: Run, *records: Any) -> list[tuple[str, str]]:
    """What is said of these records: kind and text."""
    notices: list[Notice] = [notice for each in records for notice in run.note(each)]
    return [(notice.kind, notice.text) for notice in notices]
