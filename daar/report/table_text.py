"""Numbers as a table's reader sees them."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from daar.report.differences import Difference
from daar.report.names import removed, seeds_title
from daar.report.sheet import NONE

RECONSTRUCTION = "DAAR here is a reconstruction from the abstract; its numbers are not the paper's."


def count(number: float) -> str:
    """A count with its unit: 62.7M, 4.09G; a dash for NaN."""
    if pd.isna(number):
        return NONE
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= size:
            return f"{number / size:.{1 if number >= 10 * size else 2}f}{unit}"
    return f"{number:.0f}"


def left_and_removed(number: float, reduction: float) -> str:
    """A count with the fraction removed: 62.7M (50.00%)."""
    return NONE if pd.isna(number) else f"{count(number)} ({100 * reduction:.2f}%)"


def signed(points: float) -> str:
    """Points with their sign, a true minus; what rounds to zero has none, a dash for NaN."""
    if pd.isna(points):
        return NONE
    text = f"{abs(points):.2f}"
    return text if text == "0.00" else ("−" if points < 0 else "+") + text


def percent(number: float | None) -> str:
    """Two decimals; a dash for None or NaN."""
    return NONE if number is None or pd.isna(number) else f"{number:.2f}"


def plus_minus(std: float, digits: int = 2) -> str:
    """What follows a mean: " ± 0.26"; nothing for NaN."""
    return "" if pd.isna(std) else f" ± {std:.{digits}f}"


def mean_std(mean: float, std: float, digits: int = 2) -> str:
    """92.80 ± 0.26; 92.80 where there is no deviation; a dash for NaN."""
    return NONE if pd.isna(mean) else f"{mean:.{digits}f}{plus_minus(std, digits)}"


def mean_std_n(mean: float, std: float, n: str) -> str:
    """92.80 ± 0.26 (3), where `n` is 3; 92.80 (1) where there is no deviation; a dash for NaN."""
    return f"{mean_std(mean, std)} ({n})"


def seeds(row: Mapping[Any, Any]) -> str:
    """How many seeds a `by_variant` row is of: 3; or "2 of 3; seed 1 missing" where some have no record."""
    if not row["failed_seeds"]:
        return str(row["n"])
    return f"{row['n']} of {row['n_asked']}; {seeds_title(row['failed_seeds'])} missing"


def target_heading(target: float | None) -> str:
    """The heading of a target's rows; None or NaN is for ratios of their own."""
    return "Ratios of their own" if target is None or pd.isna(target) else f"Target: {removed(target)}"


def difference(points: Difference, usual: int) -> str:
    """+0.42 [−0.10, +0.94] tied; with n where it is not the usual one, and a dash where there is no interval."""
    if points.n == 0:
        return NONE
    interval = f"[{NONE}]" if points.tied is None else f"[{signed(points.low)}, {signed(points.high)}]"
    return (
        f"{signed(points.mean)} {interval}"
        + (" tied" if points.tied else "")
        + (f" (n = {points.n})" if points.n != usual else "")
    )
