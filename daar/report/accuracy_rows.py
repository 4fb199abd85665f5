"""The figure of accuracy where a suite has few targets and many variants: a row for each, named at its left."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from daar.report import drawing, fairness
from daar.report.drawing import Look, Series
from daar.report.names import pair_title, removed
from daar.report.small_multiples import MOST
from daar.report.statistics import dense, summarise

_LABEL = 40  # characters in a line of a row's name
_LINE_INCHES = 0.105
_TARGETS = 3  # panels side by side


def is_better(rows: pd.DataFrame) -> bool:
    """Whether rows are clearer than an axis of MACs: many variants at one target, very many at two or three."""
    targets = rows["target"].nunique(dropna=False)
    variants = len(rows[["variant", "policy"]].drop_duplicates())
    few = targets <= _TARGETS and not fairness.own_ratios(rows).any()
    return bool(few and variants > (MOST if targets == 1 else 2 * MOST))


def draw_accuracy_rows(rows: pd.DataFrame, titles: Mapping[str, str], given: Mapping[str, Look]) -> Figure:
    """Accuracy, a row per variant and policy; one target after and before tuning, or a panel per target, after it.

    Where nothing was tuned, all that is shown is after BN recalibration.

    Args:
        rows: rows of results.csv of one (dataset, network).
        titles: variant → what a reader should see.
        given: variant → its look.
    """
    series = drawing.series_of(rows, titles, given)
    columns = _columns(rows)
    names = [textwrap.fill(one.label, _LABEL) for one in series]
    figure = Figure(dpi=drawing.PNG_DPI, layout="constrained")
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for panel, (target, metric, words) in zip(panels, columns, strict=True):
        for place, one in enumerate(series):
            own = rows[(rows["variant"] == one.variant) & (rows["policy"] == one.policy) & (rows["target"] == target)]
            _draw(panel, own[metric].to_numpy(), place, one)
        if metric == "top1_tuned":
            panel.axvline(dense(rows)["top1_dense_mean"], color="black", linestyle=(0, (4, 3)), linewidth=0.8, zorder=1)
        panel.set_xlabel(words, fontsize=7 if len(columns) < _TARGETS else 5)
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x")
    panels[0].set_yticks(range(len(series)), names, fontsize=5)
    panels[0].set_ylim(len(series) - 0.4, -0.6)
    pair = pair_title(rows["network"].iloc[0], rows["dataset"].iloc[0])
    figure.suptitle(f"{pair}, test top-1, {_what(rows)}", x=0.01, ha="left", fontsize=8)
    lines = drawing.footnote(figure, _notes(rows), rows["method"])
    row = max(0.15, _LINE_INCHES * max(1 + name.count("\n") for name in names))
    drawing.set_height(figure, row * len(series) + 0.65, lines)
    return figure


def _columns(rows: pd.DataFrame) -> list[tuple[float, str, str]]:
    """The target of each panel, its column of results.csv, and what its axis says."""
    targets = sorted(rows["target"].unique())
    if len(targets) > 1:
        return [(target, "top1_tuned", f"{100 * target:g}% removed") for target in targets]
    if _untuned(rows):
        return [(targets[0], "top1_tuned", "Recalibrated (%)")]
    return [(targets[0], "top1_tuned", "Tuned (%)"), (targets[0], "top1_recalibrated", "Recalibrated (%)")]


def _untuned(rows: pd.DataFrame) -> bool:
    return bool((rows["epochs"] == 0).all())


def _what(rows: pd.DataFrame) -> str:
    """What the title says of all panels."""
    if rows["target"].nunique() == 1:
        return removed(rows["target"].iloc[0])
    return "untuned (%)" if _untuned(rows) else "tuned (%)"


def _draw(panel: Axes, values: Any, place: int, one: Series) -> None:
    mean, std, _ = summarise(values)
    panel.errorbar(
        [mean],
        [place],
        xerr=[0 if np.isnan(std) else std],
        color=one.look.colour,
        marker=one.look.marker,
        markersize=3.4,
        markeredgewidth=0.7,
        fillstyle=one.fill,
        linestyle="none",
        elinewidth=0.8,
        capsize=1.5,
        capthick=0.8,
        zorder=3,
    )
    panel.scatter(values, [place] * len(values), s=9, color=one.look.colour, alpha=0.3, linewidth=0, zorder=2)


def _notes(rows: pd.DataFrame) -> list[str]:
    seeds = rows["seed"].nunique()
    base = f"; one base, {seeds} {'draws' if _untuned(rows) else 'tunings'}" if rows["imported"].any() else ""
    spread = drawing.mean_note(rows) + (f" (dots){base}." if seeds > 1 else ".")
    notes = [spread, "Dashed: the dense network."]
    if rows["target"].nunique() > 1:
        notes.append("A panel for each fraction of the MACs removed.")
    if _untuned(rows):
        return [*notes, "Nothing was tuned: BN statistics were recalibrated."]
    return [*notes, "Recalibrated: BN statistics, before tuning."] if rows["target"].nunique() == 1 else notes
