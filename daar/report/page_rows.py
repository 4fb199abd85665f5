"""The rows of the page's main tables: texts, the numbers that they sort by, and an address for each."""

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from daar.report.accuracies import table
from daar.report.differences import BEST, DAAR, Difference, differences
from daar.report.sheet import NONE
from daar.report.table_text import count, difference, mean_std, percent, signed
from daar.suite.names import Names

_VERSUS = {DAAR: "vs DAAR", BEST: "vs best comparison"}
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def main_table(results: pd.DataFrame, names: Names, stem: str) -> dict[str, Any]:
    """The main table of one (dataset, network).

    Args:
        results: its finished rows of results.csv.
        names: of the rows.
        stem: of the pair, with which addresses begin.

    Returns:
        `numeric`, the numeric table; `versus`, what the column of differences is called, None where no two rows can be
        compared; and `rows`.
    """
    numeric = table(results, names)
    compared = differences(results, names)
    reference = next((name for name in _VERSUS if (compared["reference"] == name).any()), None)
    apart = _apart(compared[compared["reference"] == reference], results["seed"].nunique())
    rows: list[dict[str, Any]] = []
    for row in numeric.to_dict("records"):
        rows.append(_row(row, apart.get((row["target"], row["variant"], row["policy"]), (None, NONE))))
        rows[-1]["id"] = _address(stem, row, {other["id"] for other in rows[:-1]})
    return {"numeric": numeric, "versus": _VERSUS.get(str(reference)), "rows": rows}


def target_text(row: Mapping[Any, Any]) -> str:
    """The target of a row of results.csv: "50%", or "own"."""
    return "own" if pd.isna(row["target"]) else f"{100 * row['target']:g}%"


def _apart(compared: pd.DataFrame, usual: int) -> dict[tuple[Any, ...], tuple[float | None, str]]:
    """(target, variant, policy) → the difference to the reference: its number, and its text."""
    found: dict[tuple[Any, ...], tuple[float | None, str]] = {}
    for line in compared.to_dict("records"):
        points = Difference(line["mean"], line["low"], line["high"], line["n"])
        text = difference(points, usual)
        found[line["target"], line["variant"], line["policy"]] = (line["mean"] if points.n else None, text)
        found[line["target"], line["reference_variant"], line["reference_policy"]] = (0.0, "reference")
    return found


def _row(row: Mapping[Any, Any], apart: tuple[float | None, str]) -> dict[str, Any]:
    is_dense = pd.isna(row["method"])
    stage = "dense" if is_dense else "tuned"
    numbers = {
        "tuned": row[f"top1_{stage}_mean"],
        "versus": apart[0],
        "delta": None if is_dense else row["delta_top1_mean"],
        "recalibrated": None if is_dense else row["top1_recalibrated_mean"],
        "macs": 100 * row["macs_reduction_mean"],
        "params": 100 * row["params_reduction_mean"],
    }
    numbers = {name: None if value is None or pd.isna(value) else float(value) for name, value in numbers.items()}
    own = bool(row["own_ratios"])
    texts = {
        "tuned": mean_std(row[f"top1_{stage}_mean"], row[f"top1_{stage}_std"]),
        "versus": apart[1],
        "delta": NONE if numbers["delta"] is None else signed(numbers["delta"]),
        "recalibrated": percent(numbers["recalibrated"]),
        "macs": f"{numbers['macs']:.2f}% ({count(row['macs_slim_mean'])} left)",
        "params": f"{numbers['params']:.2f}% ({count(row['params_slim_mean'])} left)",
    }
    return {
        "title": row["title"],
        "target": "" if is_dense else "own" if own else target_text(row),
        "target_order": -1 if is_dense else 1000 if own else 100 * row["target"],
        "policy": NONE if is_dense else row["policy"],
        "n": int(row["n"]),
        "numbers": numbers,
        "texts": texts,
    }


def _address(stem: str, row: Mapping[Any, Any], taken: set[str]) -> str:
    """What follows # in a link to a row: the same in every page of the suite, and different from those taken."""
    parts = ["dense"] if pd.isna(row["method"]) else [row["variant"], row["policy"], target_text(row).rstrip("%")]
    plain = "row-" + "-".join(_UNSAFE.sub("_", str(part)) for part in (stem, *parts))
    address, number = plain, 1
    while address in taken:
        number += 1
        address = f"{plain}-{number}"
    return address
