"""The figure of what accuracy costs: top-1, parameters and MACs left, and the seconds of choosing, a row per method."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from daar.report import drawing, row_panels
from daar.report.collect import untuned
from daar.report.drawing import Look, Series
from daar.report.fairness import own_ratios
from daar.report.names import pair_title, removed
from daar.report.statistics import summarise
from daar.suite.names import Names

_TITLE_INCHES = 0.2
_RANGE = 20  # times the least above which seconds are on a logarithmic axis
_PANELS = {"top1_tuned": "Tuned top-1 (%)", "left": "Left (% of dense)", "seconds": "Score + plan (s)"}


def draw_accuracy_costs(rows: pd.DataFrame, names: Names, given: Mapping[str, Look]) -> Figure:
    """Blocks by target, the most accurate row first; in each top-1, what is left of the network, and seconds.

    Args:
        rows: rows of results.csv of one (dataset, network).
        names: of the rows.
        given: variant → its look.
    """
    rows = rows.assign(
        params_left=100 * (1 - rows["params_reduction"]),
        macs_left=100 * (1 - rows["macs_reduction"]),
        # a control at another's widths takes its plan from there
        seconds=rows[["seconds_score", "seconds_plan"]].sum(axis=1, min_count=1).where(rows["of"].isna()),
        target=rows["target"].where(~own_ratios(rows)),
    )
    targets = sorted(rows["target"].unique(), key=lambda target: (pd.isna(target), target))
    blocks = [rows[rows["target"].isna() if pd.isna(target) else rows["target"] == target] for target in targets]
    series = drawing.series_of(rows, names, given)
    ordered = [_by_accuracy(block, series) for block in blocks]
    shown = [row_panels.labels(block) for block in ordered]
    heights = [row_panels.height(labels) for labels in shown]
    figure = Figure(dpi=drawing.PNG_DPI, layout="constrained")
    grid = figure.subplots(
        len(blocks), len(_PANELS), sharex="col", sharey="row", squeeze=False, height_ratios=heights,
        width_ratios=(5, 4, 4),
    )  # fmt: skip
    for panels, target, block, own, labels in zip(grid, targets, blocks, ordered, shown, strict=True):
        name = "own" if pd.isna(target) else f"{target:g}"
        _draw_block(panels, block, own, name)
        row_panels.name_rows(panels[0], labels)
        panels[0].set_title("at ratios of their own" if pd.isna(target) else removed(target), loc="left", fontsize=7)
    _label(grid, rows)
    figure.suptitle(pair_title(rows["network"].iloc[0], rows["dataset"].iloc[0]), x=0.01, ha="left", fontsize=8)
    lines = drawing.footnote(figure, [*_notes(rows), drawing.cut_note(grid[:, 0], "x")], rows["method"])
    drawing.set_height(figure, sum(heights) + _TITLE_INCHES * len(blocks) + 0.55, lines)
    return figure


def _by_accuracy(block: pd.DataFrame, series: Sequence[Series]) -> list[Series]:
    means = block.groupby(["variant", "policy"])["top1_tuned"].mean()
    return sorted((s for s in series if (s.variant, s.policy) in means), key=lambda s: -means[s.variant, s.policy])


def _draw_block(panels: Sequence[Axes], block: pd.DataFrame, series: Sequence[Series], target: str) -> None:
    accuracy, left, seconds = panels
    for panel, name in zip(panels, _PANELS, strict=True):
        drawing.mark(panel, "panel", name, target)
        panel.grid(axis="x")
        panel.tick_params(axis="y", length=0)
    for place, one in enumerate(series):
        own = block[(block["variant"] == one.variant) & (block["policy"] == one.policy)]
        key = (target, one.variant, one.policy)
        mean, std, _ = summarise(own["top1_tuned"])
        drawing.mark(row_panels.draw_row(accuracy, place, mean, one), "mean", "top1_tuned", *key)
        if not np.isnan(std):
            bar = row_panels.draw_bar(accuracy, place, mean - std, mean + std, one)
            drawing.mark(bar, "std", "top1_tuned", *key)
        drawing.mark(row_panels.draw_row(left, place, own["params_left"].mean(), one), "params", "left", *key)
        macs: dict[str, Any] = {"marker": "|", "markersize": 6, "markeredgecolor": "black", "fillstyle": "full"}
        drawing.mark(row_panels.draw_row(left, place, own["macs_left"].mean(), one, **macs), "macs", "left", *key)
        if own["seconds"].notna().any():
            drawing.mark(row_panels.draw_row(seconds, place, own["seconds"].median(), one), "median", "seconds", *key)
            drawing.mark(row_panels.draw_seeds(seconds, place, own["seconds"].dropna(), one), "seeds", "seconds", *key)


def _label(grid: Any, rows: pd.DataFrame) -> None:
    """The axes: shared by the blocks of a column."""
    first = {"top1_tuned": "BN recalibrated (%)"} if untuned(rows) else {}
    for panel, words in zip(grid[-1], {**_PANELS, **first}.values(), strict=True):
        panel.set_xlabel(words, fontsize=6)
    for panel in grid.flat:
        panel.tick_params(axis="x", labelsize=5.5)
    left = max(100.0, rows["params_left"].max())
    for panel in grid[:, 1]:
        panel.set_xlim(0, left)
    known = rows["seconds"].dropna()
    wide = len(known) > 0 and known.min() > 0 and known.max() > _RANGE * known.min()
    between = (1.0, 3.0) if wide and known.max() < _RANGE**2 / 4 * known.min() else (1.0,)
    for panel in grid[:, 2]:
        if wide:
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=between))
            panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            panel.xaxis.set_minor_locator(NullLocator())
        else:
            panel.set_xlim(left=0)


def _notes(rows: pd.DataFrame) -> list[str]:
    several = rows["seed"].nunique() > 1
    return [
        f"Top-1: {drawing.mean_note(rows).lower()}{drawing.base_note(rows)}.",
        f"Left: parameters (markers) and MACs (black bars){', means over seeds' if several else ''}.",
        f"Score + plan: seconds of both processes{', median over seeds (dots)' if several else ''}, rough where jobs "
        "ran side by side; controls at another's widths have none.",
    ]
