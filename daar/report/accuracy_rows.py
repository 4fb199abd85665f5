"""The figure of accuracy where a suite has one target and many variants: a row each, named at its left."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from daar.report import drawing, fairness
from daar.report.drawing import Look, Series
from daar.report.names import pair_title
from daar.report.small_multiples import MOST
from daar.report.statistics import dense, summarise

_LABEL = 40  # characters in a line of a row's name
_LINE_INCHES = 0.105


def is_better(rows: pd.DataFrame) -> bool:
    """Whether rows say more than places on an axis of MACs: many variants, all at one target."""
    one_target = rows["target"].nunique(dropna=False) == 1 and not fairness.own_ratios(rows).any()
    return bool(one_target and len(rows[["variant", "policy"]].drop_duplicates()) > MOST)


def accuracy_rows(rows: pd.DataFrame, titles: Mapping[str, str], given: Mapping[str, Look]) -> Figure:
    """Accuracy after tuning (left panel) and before it (right panel), a row per variant and policy.

    Args:
        rows: rows of results.csv of one (dataset, network) and one target.
        titles: variant → what a reader should see.
        given: variant → its look.
    """
    series = drawing.series_of(rows, titles, given)
    names = [textwrap.fill(one.label, _LABEL) for one in series]
    figure = Figure(dpi=drawing.PNG_DPI, layout="constrained")
    tuned, before = figure.subplots(1, 2, sharey=True)
    for panel, metric in ((tuned, "top1_tuned"), (before, "top1_recalibrated")):
        for place, one in enumerate(series):
            own = rows[(rows["variant"] == one.variant) & (rows["policy"] == one.policy)]
            _draw(panel, own[metric].to_numpy(), place, one)
    tuned.axvline(dense(rows)["top1_dense_mean"], color="black", linestyle=(0, (4, 3)), linewidth=0.8, zorder=1)
    tuned.set_xlabel("Tuned (%)")
    before.set_xlabel("Recalibrated (%)")
    tuned.set_yticks(range(len(series)), names, fontsize=5)
    tuned.set_ylim(len(series) - 0.4, -0.6)
    for panel in (tuned, before):
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x")
    pair = pair_title(rows["network"].iloc[0], rows["dataset"].iloc[0])
    figure.suptitle(f"{pair}, test top-1, {_removed(rows)}", x=0.01, ha="left", fontsize=8)
    lines = drawing.footnote(figure, _notes(rows), rows["method"])
    row = max(0.15, _LINE_INCHES * max(1 + name.count("\n") for name in names))
    drawing.set_height(figure, row * len(series) + 0.65, lines)
    return figure


def _removed(rows: pd.DataFrame) -> str:
    return f"{100 * rows['target'].iloc[0]:g}% of the MACs removed"


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
    base = f"; one base, {seeds} tunings" if rows["imported"].any() else ""
    spread = f"Mean ± sample standard deviation over {seeds} seeds (dots){base}." if seeds > 1 else "One seed."
    return [spread, "Dashed: the dense network.", "Recalibrated: BN statistics, before tuning."]
