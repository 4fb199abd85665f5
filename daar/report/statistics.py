"""Means, sample standard deviations and intervals of means over seeds.

The interval is Student's t ("The probable error of a mean", Biometrika 6, 1908): mean ± t(0.975, n − 1) · s / √n.
"""

import math
import statistics
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.special

from daar.report.collect import finished
from daar.report.fairness import own_ratios

CONFIDENCE = 0.95
ACCURACIES = (
    "top1_dense",
    "top1_pruned",
    "top1_recalibrated",
    "top1_tuned",
    "delta_top1",
    "top1_best_val",
    "val_top1_tuned",
    "top5_dense",
    "top5_tuned",
)
COUNTS = ("macs_slim", "macs_reduction", "macs_slim_thop", "params_slim", "params_reduction")

_GROUP = ["dataset", "network", "target", "control", "variant", "method", "policy", "scope", "own_ratios"]


class Summary(NamedTuple):
    """The mean of n values and their sample standard deviation (n − 1), NaN where it is undefined."""

    mean: float
    std: float
    n: int


def summarise(values: Iterable[float]) -> Summary:
    """Mean, sample standard deviation and number of `values`; both NaN if there are none, or a NaN among them."""
    numbers = list(values)
    if not numbers or any(map(math.isnan, numbers)):
        return Summary(math.nan, math.nan, len(numbers))
    # the standard library's stdev works in exact fractions: equal values have a spread of 0, not of 1e-14
    std = statistics.stdev(numbers) if len(numbers) > 1 else math.nan
    return Summary(statistics.fmean(numbers), std, len(numbers))


def half_width(std: float, n: int) -> float:
    """Half of the 95 % interval of the mean of n values; NaN of fewer than two, which have no interval.

    Args:
        std: their sample standard deviation; NaN of fewer than two.
        n: how many there are.
    """
    return float(scipy.special.stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * std / math.sqrt(n) if n > 1 else math.nan


def by_variant(results: pd.DataFrame) -> pd.DataFrame:
    """Summarise over seeds.

    Args:
        results: rows of results.csv, fair ones (`daar.report.fairness.check`).

    Returns:
        One row per (dataset, network, target, variant, policy) with `n` finished settings of `n_asked`
        on `bases` dense networks, `failed_seeds` (text, blank for none), `own_ratios`,
        `<accuracy>_mean` and `<accuracy>_std` (percent, points for `delta_top1`) of those that
        finished, and `<count>_mean`. Accuracies of the dense network are over the bases, not the
        settings: one imported network has no spread.
    """
    rows = results.assign(
        # from the raw columns, whatever a delta_top1 in the file says
        delta_top1=results["top1_tuned"] - results["top1_dense"],
        own_ratios=own_ratios(results),
    )
    # what a base has seen is no validation, and nothing may have been chosen on it
    rows.loc[rows["saw_val"].fillna(False), ["val_top1_tuned", "top1_best_val"]] = np.nan
    groups = rows.groupby(_GROUP, dropna=False)
    return pd.DataFrame([dict(zip(_GROUP, key, strict=True)) | _row(group) for key, group in groups])


def dense(results: pd.DataFrame) -> dict[str, Any]:
    """The dense networks of one (dataset, network), as those keys of a `by_variant` row that make sense for them.

    Their MACs and parameters have the names of the slim network's, with nothing removed.
    """
    bases = finished(results).drop_duplicates("base_sha256")
    row: dict[str, Any] = {"variant": "dense", "control": False, "own_ratios": False}
    row |= {
        "n": len(bases),
        "n_asked": len(bases),
        "bases": len(bases),
        "failed_seeds": "",
        "saw_val": bool(bases["saw_val"].any()),
    }
    for name in ("top1_dense", "top5_dense"):
        row[f"{name}_mean"], row[f"{name}_std"], _ = summarise(bases[name])
    for slim, whole in (
        ("macs_slim", "macs_dense"),
        ("macs_slim_thop", "macs_dense_thop"),
        ("params_slim", "params_dense"),
    ):
        row[f"{slim}_mean"] = _mean(bases[whole])
    return row | {"macs_reduction_mean": 0.0, "params_reduction_mean": 0.0}


def _mean(counts: pd.Series) -> float:
    """The mean of counts, NaN where one is blank."""
    return summarise(counts.to_numpy(np.float64, na_value=np.nan)).mean


def _row(group: pd.DataFrame) -> dict[str, Any]:
    rows, lost = finished(group), group.loc[group["failed"].notna(), "seed"]
    bases = rows.drop_duplicates("base_sha256")
    row: dict[str, Any] = {"n": len(rows), "n_asked": len(group), "bases": len(bases)}
    row |= {"failed_seeds": ", ".join(map(str, sorted(lost))), "saw_val": bool(rows["saw_val"].any())}
    for name in ACCURACIES:
        values = (bases if name.endswith("_dense") else rows)[name]
        row[f"{name}_mean"], row[f"{name}_std"], _ = summarise(values)
    for name in COUNTS:
        row[f"{name}_mean"] = _mean(rows[name])
    return row
