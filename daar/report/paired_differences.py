"""The figure of paired differences: how far every row is from DAAR, or from the best method, with its interval.

A forest plot: the comparison that accuracies on a common axis cannot show, since rows of one seed share the dense
network, the calibration images and the order of tuning.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from daar.report import drawing, row_panels
from daar.report.collect import state, untuned
from daar.report.differences import BEST, DAAR, Difference, Key, by_seed, differences
from daar.report.drawing import Look, Series
from daar.report.names import pair_title, removed
from daar.report.table_text import difference
from daar.suite.names import Names

_TITLE_INCHES = 0.32


def compared(rows: pd.DataFrame, names: Names) -> pd.DataFrame:
    """The lines of `differences` to DAAR; to the best comparison where DAAR is no row.

    Args:
        rows: rows of results.csv of one (dataset, network).
        names: of the rows.
    """
    lines = differences(rows, names)
    return lines[lines["reference"] == (DAAR if (lines["reference"] == DAAR).any() else BEST)]


def draw_differences(rows: pd.DataFrame, names: Names, given: Mapping[str, Look]) -> Figure:
    """Test top-1 of each row minus that of the reference, by target, the most accurate row first.

    Args:
        rows: rows of results.csv of one (dataset, network), some of which can be `compared`.
        names: of the rows.
        given: variant → its look.
    """
    lines = compared(rows, names)
    series = {(one.variant, one.policy): one for one in drawing.series_of(rows, names, given)}
    targets = sorted(lines["target"].unique())
    blocks = [_rows(rows[rows["target"] == target], lines[lines["target"] == target]) for target in targets]
    shown = [row_panels.labels([series[key] for key in block]) for block in blocks]
    heights = [row_panels.height(labels) for labels in shown]
    figure = Figure(dpi=drawing.PNG_DPI, layout="constrained")
    panels = figure.subplots(len(targets), 1, squeeze=False, height_ratios=heights)[:, 0]
    usual = rows["seed"].nunique()
    for panel, target, block, labels in zip(panels, targets, blocks, shown, strict=True):
        own = lines[lines["target"] == target]
        tuned = by_seed(rows[rows["target"] == target])
        drawing.mark(panel, "panel", f"{target:g}")
        for place, key in enumerate(block):
            _draw(panel, place, series[key], own, tuned, f"{target:g}", usual)
        panel.axvline(0, color="black", linewidth=0.8, zorder=1)
        panel.set_title(removed(target), loc="left", fontsize=7)
        panel.tick_params(axis="x", labelsize=6)
        row_panels.name_rows(panel, labels)
    pair = pair_title(rows["network"].iloc[0], rows["dataset"].iloc[0])
    figure.suptitle(f"{pair}: difference to {_reference(lines, names)}", x=0.01, ha="left", fontsize=8)
    panels[-1].set_xlabel(f"Test top-1, {state(rows)}, points; right of 0 a row is more accurate", fontsize=6.5)
    notes = drawing.footnote(figure, _notes(rows, lines, names, len(targets)), rows["method"])
    drawing.set_height(figure, sum(heights) + _TITLE_INCHES * len(targets) + 0.4, notes)
    return figure


def _reference(lines: pd.DataFrame, names: Names) -> str:
    """The name of the row that is the reference, the same at all targets, or what it is."""
    keys = set(zip(lines["reference_variant"], lines["reference_policy"], strict=True))
    return names.row(*next(iter(keys))) if len(keys) == 1 else "the best method"


def _rows(rows: pd.DataFrame, lines: pd.DataFrame) -> list[Key]:
    """The rows of one target, the reference among them, the most accurate first."""
    reference = (str(lines["reference_variant"].iloc[0]), str(lines["reference_policy"].iloc[0]))
    keys = [*zip(lines["variant"], lines["policy"], strict=True), reference]
    means = rows.groupby(["variant", "policy"])["top1_tuned"].mean()
    return sorted(keys, key=lambda key: (-means[key], key))


def _draw(
    panel: Axes,
    place: int,
    one: Series,
    lines: pd.DataFrame,
    tuned: Mapping[Key, Mapping[int, float]],
    target: str,
    usual: int,
) -> None:
    """A row: marker, interval, single seeds, and all in figures at the right."""
    mine = lines[(lines["variant"] == one.variant) & (lines["policy"] == one.policy)]
    if mine.empty:
        row_panels.draw_row(panel, place, 0.0, one)
        _say(panel, place, "reference")
        return
    line: dict[Any, Any] = mine.iloc[0].to_dict()
    points = Difference(line["mean"], line["low"], line["high"], line["n"])
    key = (target, one.variant, one.policy)
    # filled: the interval excludes 0
    fill = "full" if points.tied is False else "none"
    if points.n:
        drawing.mark(row_panels.draw_row(panel, place, points.mean, one, fill), "mean", *key)
    if points.tied is not None:
        drawing.mark(row_panels.draw_bar(panel, place, points.low, points.high, one), "interval", *key)
        reference = tuned[line["reference_variant"], line["reference_policy"]]
        mine_tuned = tuned[one.variant, one.policy]
        single = [mine_tuned[seed] - reference[seed] for seed in sorted(mine_tuned.keys() & reference.keys())]
        drawing.mark(row_panels.draw_seeds(panel, place, single, one), "seeds", *key)
    _say(panel, place, difference(points, usual))


def _say(panel: Axes, place: int, text: str) -> None:
    """Text right of a row."""
    panel.annotate(
        text, (1, place), (3, 0), ("axes fraction", "data"), "offset points", va="center", fontsize=5,
        annotation_clip=False,
    )  # fmt: skip


def _notes(rows: pd.DataFrame, lines: pd.DataFrame, names: Names, targets: int) -> list[str]:
    notes = [f"Each row's top-1 ({state(rows)}) minus that of {_reference(lines, names)}, paired by seed."]
    if rows["seed"].nunique() > 1:
        notes.append(
            "Bars and brackets: 95% interval of the mean (Student's t), of one comparison, not corrected for their "
            "number; dots: single seeds. Filled: the interval excludes 0; hollow: tied."
        )
    else:
        notes.append("One seed: a difference has no interval, and a tie cannot be seen.")
    if rows["imported"].any():
        notes.append("One dense network, which seeds do not vary: intervals say nothing of others.")
    if untuned(rows):
        notes.append("Nothing was tuned: BN statistics were recalibrated.")
    if targets > 1:
        notes.append("Each target has an axis of its own.")
    return notes
