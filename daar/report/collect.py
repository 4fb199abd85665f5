"""Records of single settings → one flat table, results.csv.

A column is named by its key path in the record, joined by underscores: `base.sha256` is
`base_sha256`, `macs.slim` is `macs_slim`. Units and meanings are those of
workflow/schemas/record.schema.yaml. The exceptions: accuracies drop the split where it is
test (`top1.test.tuned` is `top1_tuned`) and put it first where it is not (`val_top1_tuned`);
`saw_val` and `imported` drop `base`; `options`, `schedule_options` and `versions` are JSON; `schedule` is the name of
one, one-shot where the record has none; `epochs` is the length of the curve, all parts of a schedule together;
`delta_top1` is tuned − dense, in points; `seconds_finetune` is that of all tries. `latency_…` are torch's medians in
the latency.json next to the record (workflow/schemas/latency.schema.yaml), blank where the suite asks for none:
`latency_ms_slim_b128` in milliseconds of a batch of 128 images, `latency_ratio_b128` dense over slim. `failed` is
blank; a setting that has no record (`daar report --partial`) has the reason there, and otherwise only what the suite
says of the setting.
"""

import io
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from daar.errors import InputError
from daar.storage.documents import parse_json, read_json, read_text
from daar.storage.files import write_text
from daar.storage.schemas import schema, validate
from daar.suite import records
from daar.training import schedules

SETTING = ("suite", "dataset", "network", "seed", "variant", "policy", "scope", "target")
ORDER = ["suite", "dataset", "network", "target", "control", "variant", "policy", "scope", "seed"]

_STAGES = ("dense", "pruned", "recalibrated", "tuned", "best_val")
_JOBS = ("score", "plan", "finetune", "measure")
_BATCHES = (1, 128)

# column -> (dtype, key path in the record); a path that ends in null gives a blank
_FROM_RECORD: dict[str, tuple[str, str]] = {
    **{name: ("string", name) for name in ("suite", "dataset", "network", "variant", "method", "policy", "scope")},
    "target": ("float64", "target"),
    "seed": ("int64", "seed"),
    "control": ("bool", "control"),
    "of": ("string", "of"),
    "base_sha256": ("string", "base.sha256"),
    "imported": ("bool", "base.imported"),
    "saw_val": ("bool", "base.saw_val"),
    "recipe": ("string", "recipe"),
    "train_recipe": ("string", "train_recipe"),
    "calibration_images": ("int64", "calibration_images"),
    **{f"top1_{stage}": ("float64", f"top1.test.{stage}") for stage in _STAGES},
    **{f"val_top1_{stage}": ("float64", f"top1.val.{stage}") for stage in _STAGES},
    **{f"top5_{stage}": ("float64", f"top5.test.{stage}") for stage in _STAGES},
    **{f"val_top5_{stage}": ("float64", f"top5.val.{stage}") for stage in _STAGES},
    **{f"macs_{name}": ("int64", f"macs.{name}") for name in ("dense", "slim", "slim_closed_form")},
    **{f"macs_{name}": ("Int64", f"macs.{name}") for name in ("dense_thop", "slim_thop")},
    "macs_reduction": ("float64", "macs_reduction"),
    **{f"params_{name}": ("int64", f"params.{name}") for name in ("dense", "slim")},
    "params_reduction": ("float64", "params_reduction"),
    "slim_error_max_relative": ("float64", "slim_error.max_relative"),
    "slim_error_dtype": ("string", "slim_error.dtype"),
    "slim_error_images": ("int64", "slim_error.images"),
    **{f"seconds_{job}": ("float64", f"seconds.{job}") for job in _JOBS},
    **{f"peak_memory_mib_{job}": ("float64", f"peak_memory_mib.{job}") for job in _JOBS},
    **{
        f"latency_ms_{network}_b{size}": ("float64", f"latency.{size}.{network}.median_ms")
        for size in _BATCHES
        for network in ("dense", "slim")
    },
    **{f"latency_ratio_b{size}": ("float64", f"latency.{size}.ratio.median") for size in _BATCHES},
    "hardware_cpu": ("string", "hardware.cpu"),
    "hardware_cores": ("int64", "hardware.cores"),
    "hardware_gpu": ("string", "hardware.gpu"),
    "threads": ("int64", "threads"),
    "precision": ("string", "precision"),
    "commit": ("string", "commit"),
}
_DERIVED = {
    "delta_top1": "float64",
    "epochs": "int64",
    "schedule": "string",
    "schedule_options": "string",
    "options": "string",
    "versions": "string",
    "failed": "string",
}
_DTYPES = {**{name: dtype for name, (dtype, _) in _FROM_RECORD.items()}, **_DERIVED}
# what the suite says of a setting, whether or not it has a record
OF_SUITE = (*SETTING, "method", "control", "of", "calibration_images", "options", "schedule", "schedule_options")
# pandas has integers and truth values only as types that cannot be blank, and others that can
_MAY_BE_BLANK = {"int64": "Int64", "bool": "boolean"}
_NEVER_BLANK = [name for name, dtype in _DTYPES.items() if dtype in _MAY_BE_BLANK]
COLUMNS: dict[str, str] = {
    name: dtype if name in OF_SUITE else _MAY_BE_BLANK.get(dtype, dtype) for name, dtype in _DTYPES.items()
}


def load_records(paths: Iterable[Path], *, latency: bool = False) -> list[dict[str, Any]]:
    """Read records and check them against the schema.

    Args:
        paths: record.json files, one per setting.
        latency: whether to add the latency.json next to each, where there is one: as `latency`, batch size → times.

    Raises:
        InputError: no record is given, one is damaged or does not fit the schema (names file and
            key) or is in another setting's folder, or two are of the same setting (names both files).
    """
    loaded: list[dict[str, Any]] = []
    seen: dict[tuple[Any, ...], Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(
                f"{path} should be a record of one setting, but there is no such file. Run the suite again, or report "
                "on what there is: daar report SUITE.yaml --partial"
            )
        record = records.read(path)
        records.require_in_place(path, record)
        setting = tuple(record[key] for key in SETTING)
        if setting in seen:
            what = ", ".join(f"{key} {value}" for key, value in zip(SETTING, setting, strict=True))
            raise InputError(f"{seen[setting]} and {path} are both of the setting {what}. Keep one of them.")
        seen[setting] = path
        times = path.with_name("latency.json")
        loaded.append({**record, "latency": _load_latency(times)} if latency and times.exists() else record)
    if not loaded:
        raise InputError("expected at least one record.json to report on, got none. Run the suite first.")
    return loaded


def _load_latency(path: Path) -> dict[str, Any]:
    content = read_json(path, "the latency of one setting")
    validate(content, "latency", str(path), "Delete the file and run the suite again.")
    return {str(batch["batch_size"]): batch["torch"] for batch in content["batches"]}


def _lookup(record: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where the path meets a null or an optional key that is absent."""
    value: Any = record
    for key in path.split("."):
        value = None if value is None else value.get(key)
    return value


def _seconds_of_tuning(record: Mapping[str, Any]) -> float | None:
    """Of all tries: after a resumed run `seconds` is its last process alone, but its epochs count on from the first."""
    last, epochs = record["seconds"].get("finetune"), sum(epoch["seconds"] for epoch in record["curve"])
    return epochs or None if last is None else max(last, epochs)


def schedule_columns(by: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The columns of a schedule, as a record has it; None for one-shot."""
    if by is None:
        return {"schedule": schedules.ONE_SHOT, "schedule_options": "{}"}
    return {"schedule": by["name"], "schedule_options": json.dumps(by["options"], sort_keys=True)}


def results_frame(records: list[dict[str, Any]], failures: Sequence[Mapping[str, Any]] = ()) -> pd.DataFrame:
    """Flatten records that `load_records` gave to the columns that the module's head describes.

    Args:
        records: those of finished settings.
        failures: rows of settings without one: the columns OF_SUITE and `failed`.

    Returns:
        One row per setting, in an order that does not depend on the order of the arguments.
    """
    values = {name: [_lookup(record, path) for record in records] for name, (_, path) in _FROM_RECORD.items()}
    values |= {
        "delta_top1": [tuned - dense for tuned, dense in zip(values["top1_tuned"], values["top1_dense"], strict=True)],
        "epochs": [len(record["curve"]) for record in records],
        "seconds_finetune": [_seconds_of_tuning(record) for record in records],
        **{key: [json.dumps(record[key], sort_keys=True) for record in records] for key in ("options", "versions")},
        **{key: [schedule_columns(record.get("schedule"))[key] for record in records] for key in schedule_columns()},
        "failed": [None] * len(records),
    }
    frame = pd.DataFrame(
        {
            name: pd.Series([*values[name], *(row.get(name) for row in failures)], dtype=dtype)
            for name, dtype in COLUMNS.items()
        }
    )
    return frame.sort_values(ORDER, ignore_index=True)


def finished(results: pd.DataFrame) -> pd.DataFrame:
    """The rows of settings that have numbers."""
    return results[results["failed"].isna()]


def untuned(results: pd.DataFrame) -> bool:
    """Whether BN statistics were recalibrated and nothing was tuned, which outputs have to say.

    Networks that were trained from scratch do not count: they are a control.
    """
    done = finished(results)
    return bool((done.loc[done["method"] != "scratch_of", "epochs"] == 0).all())


def state(results: pd.DataFrame) -> str:
    """What the networks that accuracies are of are called: tuned or untuned."""
    return "untuned" if untuned(results) else "tuned"


def write_results(
    paths: Iterable[Path], out: Path, *, latency: bool = False, failures: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """Collect records, and latencies where asked to, into `out`, a CSV whose numbers read back equal; returns `out`.

    `failures` as in `results_frame`.
    """
    frame = results_frame(load_records(paths, latency=latency), failures)
    write_text(out, frame.to_csv(index=False, lineterminator="\n"))
    return Path(out)


def read_results(path: Path) -> pd.DataFrame:
    """Read a results.csv; the frame equals the one it was written from.

    Raises:
        InputError: the file is absent or damaged, or its columns are not ours.
    """
    # pandas 2 reads floats exactly only with float_precision, pandas 3 warns of it: we read text and convert
    raw = {name: "string" if dtype == "float64" else dtype for name, dtype in COLUMNS.items()}
    if not os.path.exists(path):  # noqa: PTH110  # Path's raises for names that cannot be one
        raise InputError(f"{path} should be a results.csv, but there is no such file. Collect the records again.")
    text = io.StringIO(read_text(path, "a results.csv"))
    try:
        # only an empty field is a blank: a variant may well be called "null"
        texts = _with_schedules(pd.read_csv(text, dtype=raw, keep_default_na=False, na_values=[""]))
        frame = texts.astype({name: dtype for name, dtype in COLUMNS.items() if name in texts})
    except (ArithmeticError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())
        raise InputError(
            f"{path} should be a results.csv, but cannot be read: {why}. Collect the records again."
        ) from error
    if list(frame.columns) != list(COLUMNS) or frame.empty:
        odd = sorted(set(frame.columns) ^ set(COLUMNS))
        what = (
            f"the columns {', '.join(odd)} are missing or unknown" if odd else "it has no rows or its columns are moved"
        )
        raise InputError(f"{path} should be a results.csv, but {what}. Collect the records again.")
    blank = finished(frame)[_NEVER_BLANK].isna().any()
    if blank.any():
        raise InputError(
            f"{path} should be a results.csv, but {blank.idxmax()} is blank for a setting that has not failed. "
            "Collect the records again."
        )
    for name in COLUMNS:
        if wrong := _out_of_range(texts[name], frame[name], _allowed(name)):
            raise InputError(f"{path} should be a results.csv, but {name} is {wrong}. Collect the records again.")
    if (twice := frame.duplicated(list(SETTING))).any():
        raise InputError(
            f"{path} should have one row for each setting, but row {_row_of(twice)} has a setting that is "
            "there before. Collect the records again."
        )
    return frame


def _with_schedules(texts: pd.DataFrame) -> pd.DataFrame:
    """A file from before there were schedules, as if it said that all was in one shot; any other as it is."""
    added = pd.DataFrame(schedule_columns(), index=texts.index, dtype="string")
    if {*texts, *added} != set(COLUMNS) or len(texts.columns) + len(added.columns) != len(COLUMNS):
        return texts
    return texts.join(added)[list(COLUMNS)]


def _allowed(column: str) -> Mapping[str, Any]:
    """What JSON Schema says of a column: as the record's schema has it, and of others here."""
    derived: dict[str, Mapping[str, Any]] = {
        "delta_top1": {"minimum": -100, "maximum": 100},
        "options": {"type": "object"},
        "schedule": {"enum": [schedules.ONE_SHOT, *schedules.KINDS]},
        "schedule_options": {"type": "object"},
    }
    if column not in _FROM_RECORD or _FROM_RECORD[column][1].startswith("latency."):
        return derived.get(column, {"type": "object"} if column == "versions" else {"minimum": 0})
    whole = schema("record")
    part: dict[str, Any] = whole
    for key in _FROM_RECORD[column][1].split("."):
        part = part["properties"][key]
        part = whole["$defs"][part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else part
    return part


def _out_of_range(texts: pd.Series, values: pd.Series, allowed: Mapping[str, Any]) -> str:
    """The first value that is not allowed, with its row, for a message; empty where all are.

    Args:
        texts: of the column, where it is of floats, else its values.
        values: of the column; blanks are allowed.
        allowed: by JSON Schema's keys.
    """
    there = values[texts.notna()]
    if pd.api.types.is_bool_dtype(there.dtype):
        return ""
    if pd.api.types.is_numeric_dtype(there.dtype):
        low, high = allowed.get("minimum", -math.inf), allowed.get("maximum", math.inf)
        above, below = allowed.get("exclusiveMinimum", -math.inf), allowed.get("exclusiveMaximum", math.inf)
        numbers = there.astype("float64")
        good = numbers.between(low, high) & (numbers.abs() < math.inf) & (numbers >= above) & (numbers <= below)
        good &= ~numbers.isin([one for one in (above, below) if math.isfinite(one)])
    else:
        good = there.map(lambda text: _is_allowed(str(text), allowed)).astype(bool)
    return "" if good.all() else f"{there[~good].iloc[0]!s:.100} in row {_row_of(~good)}"


def _row_of(odd: pd.Series) -> int:
    """The line of the file with the first row that is odd, where no cell has a newline."""
    return int(odd[odd].index.to_list()[0]) + 2


def _is_allowed(text: str, allowed: Mapping[str, Any]) -> bool:
    if allowed.get("type") == "object":
        try:
            return isinstance(parse_json(text, "", ""), dict)
        except InputError:
            return False
    return text in allowed.get("enum", [text]) and bool(re.search(allowed.get("pattern", ""), text))
