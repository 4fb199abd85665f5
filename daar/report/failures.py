"""Settings without a record, after a run with `snakemake --keep-going` or one that was cut off: which, and why.

A failed job leaves its log and none of its outputs. What it depends on may have failed as well, so the logs are read
from the record's back to the dense network's; the first that holds an error gives the reason.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from daar.methods import discovery
from daar.report.collect import schedule_columns
from daar.report.names import seeds_title
from daar.suite.definition import Setting, Suite

# of a log's end: errors stand there
_READ_BYTES = 1 << 20
NO_RECORD = "not run, or stopped before its end"

_LONGEST = 2_000
# what daar says of bad input, and the last line of a Python traceback
_ERROR = re.compile(r"^daar: error: (?P<said>.+)|^(?P<raised>(?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b.*)")


def split(suite: Suite, results: Path) -> tuple[list[Path], list[dict[str, Any]]]:
    """Divide a suite's settings into those that have a record and those that have none.

    Args:
        suite: the suite.
        results: folder of all results.

    Returns:
        The record.json files that exist; and a row of results.csv for every other setting: what the suite says of it,
        and the reason as `failed`, one line.
    """
    methods = discovery.find(suite.methods_dirs)
    controls = {name for name, method in methods.items() if method.info.get("control", False)}
    records, failed = [], []
    for setting in suite.settings:
        record = results / suite.name / setting.path / "record.json"
        if record.exists():
            records.append(record)
        else:
            failed.append(_row(suite, setting, controls) | {"failed": reason(suite, setting, results)})
    return records, failed


def reason(suite: Suite, setting: Setting, results: Path) -> str:
    """Why a setting has no record: the last error in the first of `_logs` that has one, else NO_RECORD."""
    for log in _logs(suite, setting, results):
        if log.is_file() and (said := _last_error(log)):
            return said
    return NO_RECORD


def alike(failed: pd.DataFrame) -> Iterator[tuple[dict[Any, Any], str]]:
    """Settings without a record that only their seeds tell apart: a row of them, and the seeds in words.

    Args:
        failed: rows of results.csv with a reason as `failed`.
    """
    same = ["dataset", "network", "variant", "policy", "scope", "target", "failed"]
    for _, rows in failed.groupby(same, sort=False, dropna=False):
        yield rows.iloc[0].to_dict(), seeds_title(", ".join(map(str, sorted(rows["seed"]))))


def _row(suite: Suite, setting: Setting, controls: set[str]) -> dict[str, Any]:
    variant = setting.variant
    return {
        **{"suite": suite.name, "dataset": setting.dataset, "network": setting.network, "seed": setting.seed},
        **{"variant": variant.name, "method": variant.method, "of": variant.of},
        "control": variant.of is not None or variant.method in controls,
        **{"policy": setting.policy, "scope": setting.scope, "target": setting.target},
        "calibration_images": suite.calibration_images,
        "options": json.dumps(variant.recorded, sort_keys=True),
        **schedule_columns(None if variant.schedule is None else variant.schedule.to_json()),
    }


def _logs(suite: Suite, setting: Setting, results: Path) -> Iterator[Path]:
    """The logs of the stages that a setting depends on, latest first; as in workflow/rules/*.smk."""
    folder = results / suite.name / setting.path
    yield from (folder / f"{stage}.log" for stage in ("record", "finetune", "scratch", "schedule", "plan"))
    if setting.variant.of is not None:  # a control waits for another's plan
        folder = folder.parents[1] / setting.variant.of / folder.name
        yield from (folder / f"{stage}.log" for stage in ("plan", "schedule"))
    yield folder.parent / "score.log"
    dense = results / "dense" / suite.dense_path(setting.dataset, setting.network, setting.seed)
    yield from (dense / f"{stage}.log" for stage in ("measure", "train", "import"))
    yield results / "data" / setting.dataset / "pack.log"


def _last_error(log: Path) -> str | None:
    # a log may hold what any program prints; a report must not fail over it
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - _READ_BYTES))
        text = file.read(_READ_BYTES).decode(errors="replace")
    for line in reversed(text.splitlines()):
        if error := _ERROR.match(line.strip()):
            return " ".join((error["said"] or error["raised"]).split())[:_LONGEST]
    return None
