"""The page's words about the numbers: who is ahead and how surely, what was run, what the numbers do not show."""

import math
import statistics
from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from daar.report.collect import untuned
from daar.report.differences import Difference, between, by_seed, paired
from daar.report.fairness import own_ratios
from daar.report.names import pair_title
from daar.report.table_text import signed
from daar.suite.names import Names


class Lead(NamedTuple):
    """The best method at one target, and how far it is above the second.

    Attributes:
        best: the name of its row.
        top1: its mean, in percent.
        second: the name of the next row; None where there is none.
        second_top1: the mean of that.
        points: best minus second, paired by seed.
    """

    best: str
    top1: float
    second: str | None
    second_top1: float
    points: Difference


class Finding(NamedTuple):
    """A sentence on who is ahead, and where."""

    target: str
    text: str


def leads(rows: pd.DataFrame, names: Names) -> Iterator[tuple[str, Lead]]:
    """Target, as "50%", and who leads there, of one (dataset, network); without controls and ratios of their own."""
    compared = rows[~own_ratios(rows) & ~rows["control"] & rows["top1_tuned"].notna()]
    for target, members in compared.groupby("target"):
        tuned = {names.row(*key): seeds for key, seeds in by_seed(members).items()}
        means = {name: statistics.fmean(seeds.values()) for name, seeds in tuned.items()}
        best, *others = sorted(means, key=lambda name: (-means[name], name))
        second = others[0] if others else None
        points = paired([]) if second is None else between(tuned[best], tuned[second])
        lead = Lead(best, means[best], second, math.nan if second is None else means[second], points)
        yield f"{100 * float(str(target)):g}%", lead


def findings(rows: pd.DataFrame, names: Names) -> list[Finding]:
    """One sentence per target of one (dataset, network): the best method, and whether it leads the next one."""
    where = pair_title(str(rows["network"].iloc[0]), str(rows["dataset"].iloc[0]))
    return [
        Finding(target, f"{where}, {target} of the MACs removed: {_finding(lead)}")
        for target, lead in leads(rows, names)
    ]


def _finding(lead: Lead) -> str:
    best = f"{lead.top1:.2f}%"
    if lead.second is None:
        return f"{lead.best} reaches {best}; there is no other method to compare it with."
    points = lead.points
    if points.tied is None:
        why = (
            "with fewer than two common seeds there is no interval"
            if points.n < 2
            else f"the difference is the same for all {points.n} seeds, from which no interval follows"
        )
        return (
            f"{lead.best} has the highest accuracy, {best}, above {lead.second} with {lead.second_top1:.2f}%; {why}, "
            "so this may be chance."
        )
    interval = f"95% interval {signed(points.low)} to {signed(points.high)}, {points.n} seeds"
    if points.tied:
        return f"{lead.best} ({best}) and {lead.second} are tied, {signed(points.mean)} points apart ({interval})."
    return f"{lead.best} is ahead with {best}, {points.mean:.2f} points above {lead.second} ({interval})."


def run_facts(results: pd.DataFrame) -> str:
    """What was run, in a sentence or two."""
    if results.empty:
        return "No setting has finished."
    seeds, epochs = results["seed"].nunique(), sorted(set(results.loc[~results["control"], "epochs"]))
    bases = results["base_sha256"].nunique()
    machines = sorted(set(results["hardware_gpu"].fillna(results["hardware_cpu"])))
    tuning = (
        f"tuned for {' or '.join(map(str, epochs))} epoch{'' if epochs == [1] else 's'}" if any(epochs) else "not tuned"
    )
    when = "after the last epoch of tuning" if any(epochs) else "once BN statistics are recalibrated"
    return (
        f"{_number(len(results), 'pruned network')} of {_number(bases, 'dense network')}, from "
        f"{_number(seeds, 'seed')}, {tuning}, on {', '.join(machines)}. "
        f"Accuracy is top-1 on the test images {when}."
    )


def limits(results: pd.DataFrame) -> list[str]:
    """What the numbers do not show."""
    notes = [
        "An interval compares two rows and is not corrected for how many are compared; with few seeds it is wide.",
        "Tied means that these runs do not tell the two apart, not that they are equal.",
        "Nothing was tuned; tuning may order the methods otherwise."
        if untuned(results)
        else "All methods were tuned by the same recipe; another recipe may order them otherwise.",
        "MACs are counted, not timed: fewer of them need not run faster.",
    ]
    if results["imported"].any():
        vary = "the calibration images" if untuned(results) else "its tuning"
        notes.append(f"A dense network was imported: seeds vary {vary}, not its training.")
    return notes


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
