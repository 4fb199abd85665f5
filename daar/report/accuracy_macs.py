"""The figure of accuracy versus MACs left, one per (dataset, network).

Every mark is at its true MACs. Rows of one target lie almost above each other, so those that overlap differ by
size, rim and shape; `daar.report.paired_differences` shows what their distances are.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from daar.report import drawing, fairness
from daar.report.collect import state
from daar.report.drawing import Look, Series
from daar.report.names import pair_title
from daar.report.statistics import by_variant, dense
from daar.report.table_text import count
from daar.suite.names import Names

FEWEST = 3  # targets of one row that a line joins: between two nothing says how it runs
_SIZES = 6.4, 3.6  # of the first and of the last series' markers, in points: the last is in front
_LEAST_SPAN = 10.0  # of the axis, in points of MACs: less would show how targets are met, not what they cost


def draw_accuracy_macs(
    rows: pd.DataFrame,
    names: Names,
    given: Mapping[str, Look],
    published: pd.DataFrame | None = None,
) -> Figure:
    """Accuracy after tuning (upper panel) and before it (lower panel) versus MACs left.

    Args:
        rows: rows of results.csv of one (dataset, network).
        names: of the rows.
        given: variant → its look.
        published: what others published of this pair: `label` (method), `macs_reduction` (fraction) and `pruned_top1`
            (percent); rows that lack a number are left out.
    """
    figure = Figure(dpi=drawing.PNG_DPI, layout="constrained")
    panels = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    upper, lower = panels
    series, means = drawing.series_of(rows, names, given), by_variant(rows)
    for panel, metric in ((upper, "top1_tuned"), (lower, "top1_recalibrated")):
        drawing.mark(panel, "panel", metric)
        for one, size in zip(series, np.linspace(*_SIZES, len(series)), strict=True):
            _draw(panel, one, means, metric, size)
            _draw_seeds(panel, one, rows, metric)
    whole = dense(rows)
    _dense_line(upper, whole)
    crosses = _draw_published(upper, published)
    upper.set_title(pair_title(rows["network"].iloc[0], rows["dataset"].iloc[0]), loc="left")
    upper.set_ylabel(f"Test top-1, {state(rows)} (%)")
    lower.set_ylabel("BN recalibrated,\nbefore tuning (%)")
    lower.set_xlabel(f"MACs left (% of the dense network's {count(whole['macs_slim_mean'])})")
    _widen(lower)
    figure.align_ylabels()
    lines = drawing.legend(figure, [upper])
    notes = [*_notes(rows), drawing.cut_note(panels), crosses]
    lines += drawing.footnote(figure, notes, rows["method"])
    drawing.set_height(figure, drawing.PANELS_INCHES, lines)
    return figure


def _draw(panel: Axes, one: Series, means: pd.DataFrame, metric: str, size: float) -> None:
    mine = means[(means["variant"] == one.variant) & (means["policy"] == one.policy)]
    mine = mine.assign(x=100 * (1 - mine["macs_reduction_mean"])).sort_values("x")
    own = mine["own_ratios"]
    joined = one.line if (~own).sum() >= FEWEST else "none"
    # rows at ratios of their own share no target with others: hollow, and no line leads there
    for what, part, line, fill in (("mean", mine[~own], joined, one.fill), ("own", mine[own], "none", "none")):
        if part.empty:
            continue
        panel.plot(part["x"], part[f"{metric}_mean"], color=one.look.colour, linestyle=line, linewidth=0.5, alpha=0.7)
        drawn, _, bars = panel.errorbar(
            part["x"],
            part[f"{metric}_mean"],
            yerr=part[f"{metric}_std"].fillna(0),
            color=one.look.colour,
            marker=one.look.marker,
            markersize=size,
            markeredgewidth=0.6,
            fillstyle=fill,
            linestyle="none",
            elinewidth=0.8,
            label=one.label,
            zorder=3,
            **drawing.edge(one._replace(fill=fill)),
        )
        drawing.mark(drawn, what, metric, one.variant, one.policy)
        drawing.mark(bars[0], "std", metric, one.variant, one.policy)


def _draw_seeds(panel: Axes, one: Series, rows: pd.DataFrame, metric: str) -> None:
    own = rows[(rows["variant"] == one.variant) & (rows["policy"] == one.policy)]
    dots = panel.scatter(
        100 * (1 - own["macs_reduction"]), own[metric], s=5, color=one.look.colour, alpha=0.45, linewidth=0, zorder=2
    )
    drawing.mark(dots, "seeds", metric, one.variant, one.policy)


def _dense_line(panel: Axes, whole: Mapping[str, Any]) -> None:
    mean, std = whole["top1_dense_mean"], whole["top1_dense_std"]
    panel.axhline(mean, color="black", linestyle=(0, (4, 3)), linewidth=0.8, label="Dense", zorder=1)
    if not np.isnan(std):
        panel.axhspan(mean - std, mean + std, color="black", alpha=0.08, linewidth=0, zorder=0)


def _draw_published(panel: Axes, published: pd.DataFrame | None) -> str:
    """Crosses; returns what they are, or nothing."""
    known = pd.DataFrame() if published is None else published.dropna(subset=["macs_reduction", "pruned_top1"])
    if known.empty:
        return ""
    x, y = 100 * (1 - known["macs_reduction"].to_numpy(dtype=float)), known["pruned_top1"].to_numpy(dtype=float)
    (crosses,) = panel.plot(
        x, y, marker="x", color="#808080", markersize=2.6, markeredgewidth=0.5, linestyle="none", zorder=1,
        label="Published",
    )  # fmt: skip
    drawing.mark(crosses, "published", "top1_tuned")
    results, methods = len(known), known["label"].nunique()
    what = f"{results} result{'' if results == 1 else 's'} of {methods} method{'' if methods == 1 else 's'}"
    return f"Published: {what}, of other dense networks and recipes; the table of published results lists them."


def _widen(panel: Axes) -> None:
    left, right = panel.get_xlim()
    missing = max(0.0, _LEAST_SPAN - (right - left)) / 2
    panel.set_xlim(left - missing, right + missing)


def _notes(rows: pd.DataFrame) -> list[str]:
    """How to read the panels."""
    several, own = rows["seed"].nunique() > 1, fairness.own_ratios(rows)
    notes = [f"{drawing.mean_note(rows)}{' (dots)' if several else ''}{drawing.base_note(rows)}."]
    if own.any():
        notes.append("Hollow: at ratios of their own.")
    return notes
