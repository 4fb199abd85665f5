"""The figure of accuracy versus MACs left, one per (dataset, network)."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from daar.report import drawing, fairness
from daar.report.drawing import Look, Series
from daar.report.names import pair_title
from daar.report.statistics import by_variant, dense
from daar.report.table_text import count


def draw_accuracy_macs(
    rows: pd.DataFrame,
    titles: Mapping[str, str],
    given: Mapping[str, Look],
    published: pd.DataFrame | None = None,
) -> Figure:
    """Accuracy after tuning (upper panel) and before it (lower panel) versus MACs left.

    Args:
        rows: rows of results.csv of one (dataset, network).
        titles: variant → what a reader should see.
        given: variant → its look.
        published: what others published of this pair: `label` (method), `macs_reduction` (fraction) and `pruned_top1`
            (percent); rows that lack a number are left out.
    """
    figure = Figure(dpi=drawing.PNG_DPI, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    placed = _place(rows, drawing.series_of(rows, titles, given))
    for panel, metric in ((upper, "top1_tuned"), (lower, "top1_recalibrated")):
        for one in placed:
            _draw(panel, one, metric)
    whole = dense(rows)
    _dense_line(upper, whole)
    numbered = _draw_published(upper, published)
    upper.set_title(pair_title(rows["network"].iloc[0], rows["dataset"].iloc[0]), loc="left")
    upper.set_ylabel("Test top-1, tuned (%)")
    lower.set_ylabel("BN recalibrated,\nbefore tuning (%)")
    lower.set_xlabel(f"MACs left (% of the dense network's {count(whole['macs_slim_mean'])})")
    if not numbered:  # with published points every place on the axis means something
        _ticks(lower, placed)
    figure.align_ylabels()
    lines = drawing.legend(figure, [upper])
    lines += drawing.footnote(figure, [*_notes(rows, len(placed)), *_key(numbered)], rows["method"])
    drawing.set_height(figure, drawing.PANELS_INCHES, lines)
    return figure


class _Placed(NamedTuple):
    """A series, its summary rows, its single seeds, and both with their place `x` (% of MACs)."""

    series: Series
    means: pd.DataFrame
    seeds: pd.DataFrame


def _place(rows: pd.DataFrame, series: list[Series]) -> list[_Placed]:
    """Shift the series sideways so that their error bars do not overlap."""
    means = by_variant(rows)
    means["x"] = 100 * (1 - means["macs_reduction_mean"])
    means = means.sort_values("x")
    step = _step(means, len(series))
    placed = []
    for index, one in enumerate(series):
        own = means[(means["variant"] == one.variant) & (means["policy"] == one.policy)]
        # rows at ratios of their own share no target with others: they are not shifted
        shift = step * (index - (len(series) - 1) / 2)
        own = own.assign(x=own["x"].where(own["own_ratios"], own["x"] + shift))
        seeds = rows[(rows["variant"] == one.variant) & (rows["policy"] == one.policy)]
        placed.append(_Placed(one, own, seeds.merge(own[["target", "x"]], on="target")))
    return placed


def _step(means: pd.DataFrame, count: int) -> float:
    """Points of MACs between neighbours of one target: just apart, and a group within a third of the room it has."""
    places = np.sort(means.loc[~means["own_ratios"]].groupby("target")["x"].mean().to_numpy())
    if len(places) < 2:
        return max(3.0, float(np.ptp(means["x"]))) / 3 / max(count - 1, 1)
    return min(0.03 * float(np.ptp(means["x"])), float(np.diff(places).min()) / 3 / max(count - 1, 1))


def _draw(panel: Axes, one: _Placed, metric: str) -> None:
    look, own = one.series.look, one.means["own_ratios"]
    # a line leads from target to target; own ratios are single points
    styles = (one.means[~own], one.series.line, one.series.fill), (one.means[own], "none", "none")
    for means, line_style, fill_style in styles:
        if means.empty:
            continue
        panel.errorbar(
            means["x"],
            means[f"{metric}_mean"],
            yerr=means[f"{metric}_std"].fillna(0),
            color=look.colour,
            marker=look.marker,
            markersize=3.6,
            markeredgewidth=0.8,
            fillstyle=fill_style,
            linestyle=line_style,
            linewidth=0.8,
            elinewidth=0.8,
            capsize=1.8,
            capthick=0.8,
            label=one.series.label,
            zorder=3,
        )
    # wider than the error bar in front of them
    panel.scatter(one.seeds["x"], one.seeds[metric], s=11, color=look.colour, alpha=0.3, linewidth=0, zorder=2)


def _dense_line(panel: Axes, whole: Mapping[str, Any]) -> None:
    mean, std = whole["top1_dense_mean"], whole["top1_dense_std"]
    panel.axhline(mean, color="black", linestyle=(0, (4, 3)), linewidth=0.8, label="Dense", zorder=1)
    if not np.isnan(std):
        panel.axhspan(mean - std, mean + std, color="black", alpha=0.08, linewidth=0, zorder=0)


def _draw_published(panel: Axes, published: pd.DataFrame | None) -> list[str]:
    """Crosses, each with the number of its label; returns the labels."""
    if published is None:
        return []
    known = published.dropna(subset=["macs_reduction", "pruned_top1"])
    x, y = 100 * (1 - known["macs_reduction"].to_numpy(dtype=float)), known["pruned_top1"].to_numpy(dtype=float)
    panel.plot(
        x, y, marker="x", color="#606060", markersize=3, markeredgewidth=0.6, linestyle="none", zorder=2,
        label="Published, by number" if len(known) else "_",
    )  # fmt: skip
    labels = sorted(set(known["label"]))
    room = np.array([np.ptp(panel.get_xlim()), np.ptp(panel.get_ylim())]) * (0.03, 0.05)
    taken: list[Any] = []
    for label, place in zip(known["label"], np.column_stack([x, y]), strict=True):
        if any((abs(place - other) < room).all() for other in taken):
            continue  # two numbers at one place cannot be read
        taken.append(place)
        text = str(labels.index(label) + 1)
        panel.annotate(text, tuple(place), (1.8, 1.2), textcoords="offset points", fontsize=4.5)
    return labels


def _key(labels: list[str]) -> list[str]:
    """What the numbers next to the crosses mean."""
    named = ", ".join(f"{number}\N{NO-BREAK SPACE}{label}" for number, label in enumerate(labels, 1))
    text = f"Published, of other dense networks and recipes, numbered where there is room: {named}."
    return [text] if labels else []


def _ticks(panel: Axes, placed: Iterable[_Placed]) -> None:
    """A tick at every target, if they are few: other places on the axis mean nothing."""
    means = pd.concat([one.means for one in placed])
    if means["own_ratios"].any() or means["target"].nunique() > 6:
        return
    places = np.sort(100 * (1 - means.groupby("target")["macs_reduction_mean"].mean()))
    panel.set_xticks(places, [f"{place:.1f}" for place in places])
    if len(places) == 1:  # keep the variants of one target close together, in the middle
        left, right = panel.get_xlim()
        panel.set_xlim(left - (right - left), right + (right - left))


def _notes(rows: pd.DataFrame, series: int) -> list[str]:
    """How to read the panels."""
    seeds, own = rows["seed"].nunique(), fairness.own_ratios(rows)
    base = f"; one base, {seeds} tunings" if rows["imported"].any() else ""
    notes = [drawing.mean_note(rows) + (f" (dots){base}." if seeds > 1 else ".")]
    if series > 1 and not own.all():
        notes.append("Variants of one target are spread sideways.")
    if own.any():
        notes.append("Hollow: at ratios of their own.")
    return notes
