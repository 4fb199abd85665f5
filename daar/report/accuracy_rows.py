"""The figure of accuracy where a suite has one target, or few and many variants: a row for each, named at its left."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from daar.report import drawing, fairness, row_panels
from daar.report.collect import state, untuned
from daar.report.drawing import Look, Series
from daar.report.names import pair_title, removed
from daar.report.small_multiples import MOST
from daar.report.statistics import dense, summarise
from daar.suite.names import Names

_TARGETS = 3  # panels side by side
_TWICE = 14  # rows that are shown a second time, before tuning


def is_better(rows: pd.DataFrame) -> bool:
    """Whether rows are clearer than an axis of MACs: at one target, or for very many variants at two or three."""
    targets = rows["target"].nunique(dropna=False)
    variants = len(rows[["variant", "policy"]].drop_duplicates())
    few = targets <= _TARGETS and not fairness.own_ratios(rows).any()
    return bool(few and (targets == 1 or variants > 2 * MOST))


def draw_accuracy_rows(rows: pd.DataFrame, names: Names, given: Mapping[str, Look]) -> Figure:
    """Accuracy, a row per variant and policy; at one target after and before tuning, or a panel per target, after it.

    Where nothing was tuned, all that is shown is after BN recalibration.

    Args:
        rows: rows of results.csv of one (dataset, network).
        names: of the rows.
        given: variant → its look.
    """
    series = _by_accuracy(rows, drawing.series_of(rows, names, given))
    shown = row_panels.labels(series)
    targets, metrics = sorted(rows["target"].unique()), _metrics(rows, len(series))
    figure = Figure(dpi=drawing.PNG_DPI, layout="constrained")
    grid = figure.subplots(len(metrics), len(targets), sharex="row", sharey="row", squeeze=False)
    for panels, metric in zip(grid, metrics, strict=True):
        for panel, target in zip(panels, targets, strict=True):
            drawing.mark(panel, "panel", metric, f"{target:g}")
            _draw(panel, rows[rows["target"] == target], metric, series, f"{target:g}")
            what = "Tuned (%)" if metric == "top1_tuned" and not untuned(rows) else "BN recalibrated (%)"
            panel.set_xlabel(what if len(targets) == 1 else f"{100 * target:g}% removed", fontsize=6)
            panel.tick_params(axis="x", labelsize=6)
        row_panels.name_rows(panels[0], shown)
    pair = pair_title(rows["network"].iloc[0], rows["dataset"].iloc[0])
    figure.suptitle(f"{pair}, test top-1, {_what(rows)}", x=0.01, ha="left", fontsize=8)
    lines = drawing.footnote(figure, [*_notes(rows, len(metrics)), drawing.cut_note(grid.flat, "x")], rows["method"])
    drawing.set_height(figure, (row_panels.height(shown) + 0.35) * len(metrics) + 0.25, lines)
    return figure


def _by_accuracy(rows: pd.DataFrame, series: Sequence[Series]) -> list[Series]:
    """The most accurate first, by the mean over targets."""
    means = rows.groupby(["variant", "policy", "target"])["top1_tuned"].mean().groupby(["variant", "policy"]).mean()
    return sorted(series, key=lambda one: -means[one.variant, one.policy])


def _metrics(rows: pd.DataFrame, series: int) -> list[str]:
    twice = rows["target"].nunique() == 1 and not untuned(rows) and series <= _TWICE
    return ["top1_tuned", "top1_recalibrated"] if twice else ["top1_tuned"]


def _what(rows: pd.DataFrame) -> str:
    """What the title says of all panels."""
    if rows["target"].nunique() == 1:
        return removed(rows["target"].iloc[0])
    return f"{state(rows)} (%)"


def _draw(panel: Axes, rows: pd.DataFrame, metric: str, series: Sequence[Series], target: str) -> None:
    if metric == "top1_tuned":
        panel.axvline(dense(rows)["top1_dense_mean"], color="black", linestyle=(0, (4, 3)), linewidth=0.8, zorder=1)
    panel.grid(axis="x")
    panel.tick_params(axis="y", length=0)
    for place, one in enumerate(series):
        values = rows.loc[(rows["variant"] == one.variant) & (rows["policy"] == one.policy), metric].to_numpy()
        mean, std, _ = summarise(values)
        key = (metric, target, one.variant, one.policy)
        drawing.mark(row_panels.draw_row(panel, place, mean, one), "mean", *key)
        if not np.isnan(std):
            drawing.mark(row_panels.draw_bar(panel, place, mean - std, mean + std, one), "std", *key)
            drawing.mark(row_panels.draw_seeds(panel, place, values, one), "seeds", *key)


def _notes(rows: pd.DataFrame, panels: int) -> list[Any]:
    several = rows["seed"].nunique() > 1
    notes = [f"{drawing.mean_note(rows)}{' (dots)' if several else ''}{drawing.base_note(rows)}.", "Dashed: dense."]
    if rows["target"].nunique() > 1:
        notes.append("A panel for each fraction of the MACs removed.")
    if untuned(rows):
        notes.append("Nothing was tuned: BN statistics were recalibrated.")
    return [*notes, "BN recalibrated: before tuning."] if panels > 1 else notes
