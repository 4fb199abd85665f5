"""Numbers as a table's reader sees them."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from daar.report.differences import Difference
from daar.report.names import seeds_title
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


def percent(mean: float) -> str:
    """Two decimals; a dash for NaN."""
    return NONE if pd.isna(mean) else f"{mean:.2f}"


def spread(mean: float, std: float, of: str) -> str:
    """92.80 ± 0.26 (3), where `of` is 3; without a spread 92.80 (1); a dash for NaN."""
    if pd.isna(mean):
        return f"{NONE} ({of})"
    return f"{mean:.2f} ({of})" if pd.isna(std) else f"{mean:.2f} ± {std:.2f} ({of})"


def seeds(row: Mapping[Any, Any]) -> str:
    """How many seeds a `by_variant` row is of: 3, or where some have no record, 2 of 3; seed 1 missing."""
    if not row["failed_seeds"]:
        return str(row["n"])
    return f"{row['n']} of {row['n_asked']}; {seeds_title(row['failed_seeds'])} missing"


def targeted(target: float) -> str:
    """The heading of a target's rows."""
    return f"Target: {100 * target:g}% of the MACs removed"


def difference(found: Difference, usual: int) -> str:
    """+0.42 [−0.10, +0.94] tied; with n where it is not the usual one, with a dash for want of an interval."""
    if found.n == 0:
        return NONE
    interval = f"[{NONE}]" if found.tied is None else f"[{signed(found.low)}, {signed(found.high)}]"
    return (
        f"{signed(found.mean)} {interval}"
        + (" tied" if found.tied else "")
        + (f" (n = {found.n})" if found.n != usual else "")
    )
