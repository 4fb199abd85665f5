"""How to read a page's numbers, a sentence or two each."""

from collections.abc import Iterator

import pandas as pd

from daar.report import failures
from daar.report.collect import state, untuned
from daar.report.context import Context
from daar.report.differences import plain
from daar.report.table_text import RECONSTRUCTION


def on_accuracies(rows: pd.DataFrame) -> Iterator[str]:
    """What the columns of accuracies and sizes are."""
    last = (
        "BN statistics are recalibrated, nothing is tuned"
        if untuned(rows)
        else "tuned: last epoch, best-val: epoch with the best validation accuracy"
    )
    yield f"Accuracies are percent of the test images, Val top-1 of the validation images; {last}."
    yield "Mean ± sample standard deviation (n). Δ is taken per seed, in points, then averaged."
    yield "FLOPs means MACs: multiply-accumulates of conv and linear layers for one image; thop adds BN."
    if rows["imported"].any():
        sets = " and random importance" if untuned(rows) else ", random importance and the order of tuning"
        yield f"One imported dense network: a seed sets only the calibration images{sets}."
    if rows["saw_val"].any():
        yield "The base was trained on the validation images: they are seen, and nothing was chosen on them."
    if (rows["method"] == "daar").any():
        yield RECONSTRUCTION


def on_differences(rows: pd.DataFrame, context: Context) -> Iterator[str]:
    """What the columns of differences mean; nothing where no two rows share a target."""
    usual = rows["seed"].nunique()
    if not (rows.drop_duplicates(["target", "variant", "policy"])["target"].value_counts() > 1).any():
        return
    daar = plain(rows, "daar", context.names)
    fewer = "" if rows["failed"].isna().all() else " (where not all rows have all seeds, of those with the most)"
    yield (
        f"vs best comparison: {state(rows)} top-1 minus that of the method with the highest mean at the target{fewer}, "
        "controls and variants of DAAR left out; it is the row that says reference."
        + (f" vs DAAR: minus that of {context.names.row(*daar)}." if daar else "")
    )
    yield on_intervals(usual)
    if usual < 2:
        return
    if rows["imported"].any():
        yield "Pairs are of seeds of one imported network: intervals say nothing of other dense networks."
    yield f"Bold: the method with the highest {state(rows)} top-1 at the target, unless it is tied with the second."


def on_intervals(seeds: int) -> str:
    """What is in brackets after a difference over this number of seeds."""
    if seeds < 2:
        return "One seed: a difference has no interval, and a tie cannot be seen."
    return (
        f"In brackets: 95% interval of the mean difference, in points, paired by seed (Student's t, n = {seeds} unless "
        "said otherwise); tied: it contains 0. Each is for one comparison, without correction for their number."
    )


def on_failures(rows: pd.DataFrame, context: Context) -> Iterator[str]:
    """Which settings have no record, and why."""
    for row, seeds in failures.alike(rows[rows["failed"].notna()]):
        target = "" if pd.isna(row["target"]) else f", target {100 * row['target']:g}%"
        yield f"Missing: {context.names.row(row['variant'], row['policy'])}{target}, {seeds}: {row['failed']}"
