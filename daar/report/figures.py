"""The figures: accuracy versus MACs, one per (dataset, network), rebuilt from results.csv alone.

Matplotlib's global state has no say in them and is left as it was; equal results give equal bytes.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from daar.files import atomic
from daar.report import fairness
from daar.report.collect import finished, read_results
from daar.report.names import pair_title
from daar.report.statistics import by_variant, dense
from daar.report.tables import RECONSTRUCTION, count

WIDTH_INCHES = 90 / 25.4  # one column of a journal
PANELS_INCHES = 3.1
LINE_INCHES = 0.13  # of legend or footnote
PNG_DPI = 200

# Okabe & Ito's colours, told apart by colour-blind readers and (with the markers) in grey print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
CONTROL_COLOURS = ("#707070", "#a0a0a0")
CONTROL_MARKERS = ("p", "h", "*")
# by a variant's policies: the first is drawn solid and filled; hollow is for ratios of their own
POLICY_LOOKS = (("-", "full"), ("--", "left"), (":", "right"), ("-.", "top"))

STYLE: dict[str, Any] = {
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 6.5,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "svg.fonttype": "none",  # text stays text: it can be searched and edited
    "svg.hashsalt": "daar",  # ids depend on the content alone
}


class Look(NamedTuple):
    """How a variant is drawn."""

    colour: str
    marker: str


def looks(results: pd.DataFrame) -> dict[str, Look]:
    """A look for every variant, the same in all figures of one results.csv; controls are grey."""
    methods = sorted(set(results.loc[~results["control"], "variant"]))
    controls = sorted(set(results.loc[results["control"], "variant"]) - set(methods))
    given = {}
    for names, colours, markers in ((methods, COLOURS, MARKERS), (controls, CONTROL_COLOURS, CONTROL_MARKERS)):
        for index, name in enumerate(names):
            given[name] = Look(colours[index % len(colours)], markers[index % len(markers)])
    return given


def write_figures(results: Path, folder: Path, titles: Mapping[str, str]) -> list[Path]:
    """Write `<dataset>-<network>-accuracy-macs.png` and `.svg` into `folder` for every pair in results.csv.

    Args:
        results: the results.csv.
        folder: where the figures go.
        titles: variant -> what a reader should see; a variant without one keeps its name.

    Returns:
        The files written.

    Raises:
        InputError: results.csv is damaged, or a comparison would not be fair; no figure is
            written then.
    """
    frame = read_results(results)
    fairness.check(frame)
    frame = finished(frame)
    given = looks(frame)
    paths = []
    for (dataset, network), rows in frame.groupby(["dataset", "network"]):
        with matplotlib.style.context(["default", STYLE]):
            figure = accuracy_macs(rows, titles, given)
            for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
                path = Path(folder) / f"{dataset}-{network}-accuracy-macs.{kind}"
                with atomic(path) as temporary:
                    figure.savefig(temporary, metadata=metadata)
                paths.append(path)
    return paths


def accuracy_macs(rows: pd.DataFrame, titles: Mapping[str, str], given: Mapping[str, Look]) -> Figure:
    """Accuracy after tuning (upper panel) and before it (lower panel) versus MACs left.

    Args:
        rows: rows of results.csv of one (dataset, network).
        titles: variant -> what a reader should see.
        given: variant -> its look.
    """
    figure = Figure(dpi=PNG_DPI, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    series = _series(rows, titles)
    for panel, metric in ((upper, "top1_tuned"), (lower, "top1_recalibrated")):
        for one in series:
            _draw(panel, one, metric, given[one.variant])
    whole = dense(rows)
    _dense_line(upper, whole)
    upper.set_title(pair_title(rows["network"].iloc[0], rows["dataset"].iloc[0]), loc="left")
    upper.set_ylabel("Test top-1, tuned (%)")
    lower.set_ylabel("BN recalibrated,\nbefore tuning (%)")
    lower.set_xlabel(f"MACs left (% of the dense network's {count(whole['macs_slim_mean'])})")
    _ticks(lower, series)
    figure.align_ylabels()
    lines = _legend(figure, upper) + _footnote(figure, rows, len(series))
    # what stands around the panels makes the figure taller, not the panels flatter
    figure.set_size_inches(WIDTH_INCHES, PANELS_INCHES + LINE_INCHES * lines)
    return figure


class _Series(NamedTuple):
    """One (variant, policy): its summary rows, its single seeds, and both with their place `x` (% of MACs)."""

    variant: str
    label: str
    policy_index: int
    means: pd.DataFrame
    seeds: pd.DataFrame


def _series(rows: pd.DataFrame, titles: Mapping[str, str]) -> list[_Series]:
    """The series of a figure, controls last, spread sideways so that their error bars stand apart."""
    means = by_variant(rows)
    means["x"] = 100 * (1 - means["macs_reduction_mean"])
    means = means.sort_values(["control", "variant", "policy", "x"])
    keys = list(dict.fromkeys(zip(means["variant"], means["policy"], strict=True)))
    step = _step(means, len(keys))
    series: list[_Series] = []
    for index, (variant, policy) in enumerate(keys):
        own = means[(means["variant"] == variant) & (means["policy"] == policy)]
        # rows at ratios of their own share no target with others: they stay where they are
        shift = step * (index - (len(keys) - 1) / 2)
        own = own.assign(x=own["x"].where(own["own_ratios"], own["x"] + shift))
        seeds = rows[(rows["variant"] == variant) & (rows["policy"] == policy)]
        seeds = seeds.merge(own[["target", "x"]], on="target")
        label = titles.get(variant, variant) + (" (control)" if own["control"].all() else "")
        if means["policy"].nunique() > 1:
            label += f", {policy}"
        series.append(_Series(variant, label, sum(one.variant == variant for one in series), own, seeds))
    return series


def _step(means: pd.DataFrame, count: int) -> float:
    """Points of MACs between neighbours of one target: just apart, and a group within a third of the room it has."""
    places = np.sort(means.loc[~means["own_ratios"]].groupby("target")["x"].mean().to_numpy())
    if len(places) < 2:
        return max(3.0, float(np.ptp(means["x"]))) / 3 / max(count - 1, 1)
    return min(0.03 * float(np.ptp(means["x"])), float(np.diff(places).min()) / 3 / max(count - 1, 1))


def _draw(panel: Axes, one: _Series, metric: str, look: Look) -> None:
    line, fill = POLICY_LOOKS[one.policy_index % len(POLICY_LOOKS)]
    own = one.means["own_ratios"]
    # a line leads from target to target; own ratios are single points
    for means, line_style, fill_style in ((one.means[~own], line, fill), (one.means[own], "none", "none")):
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
            label=one.label,
            zorder=3,
        )
    # wider than the error bar they stand behind
    panel.scatter(one.seeds["x"], one.seeds[metric], s=11, color=look.colour, alpha=0.3, linewidth=0, zorder=2)


def _dense_line(panel: Axes, whole: Mapping[str, Any]) -> None:
    mean, std = whole["top1_dense_mean"], whole["top1_dense_std"]
    panel.axhline(mean, color="black", linestyle=(0, (4, 3)), linewidth=0.8, label="Dense", zorder=1)
    if not np.isnan(std):
        panel.axhspan(mean - std, mean + std, color="black", alpha=0.08, linewidth=0, zorder=0)


def _ticks(panel: Axes, series: Iterable[_Series]) -> None:
    """A tick at every target, where they are few: other places on the axis mean nothing."""
    means = pd.concat([one.means for one in series])
    if means["own_ratios"].any() or means["target"].nunique() > 6:
        return
    places = np.sort(100 * (1 - means.groupby("target")["macs_reduction_mean"].mean()))
    panel.set_xticks(places, [f"{place:.1f}" for place in places])
    if len(places) == 1:  # variants of one target stand close together, in the middle
        left, right = panel.get_xlim()
        panel.set_xlim(left - (right - left), right + (right - left))


def _legend(figure: Figure, panel: Axes) -> int:
    """Put the legend above the panels; returns how many lines it takes."""
    # one entry per label: a series may have points with a line and points without
    entries: dict[str, Any] = {}
    for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
        entries.setdefault(label, handle)
    labels = [textwrap.fill(label, 60) for label in entries]
    columns = 2 if max(map(len, labels)) <= 30 else 1
    figure.legend(
        entries.values(), labels, loc="outside upper left", ncols=columns, handlelength=1.6, columnspacing=1.2
    )
    return math.ceil(sum(label.count("\n") + 1 for label in labels) / columns)


def _footnote(figure: Figure, rows: pd.DataFrame, series: int) -> int:
    """Say below the panels how to read them; returns how many lines it takes."""
    seeds, own = rows["seed"].nunique(), fairness.own_ratios(rows)
    base = f"; one base, {seeds} tunings" if rows["imported"].any() else ""
    notes = [f"Mean ± sample standard deviation over {seeds} seeds (dots){base}." if seeds > 1 else "One seed."]
    if series > 1 and not own.all():
        notes.append("Variants of one target are spread sideways.")
    if own.any():
        notes.append("Hollow: at ratios of their own.")
    if (rows["method"] == "daar").any():
        notes.append(RECONSTRUCTION)
    text = textwrap.fill(" ".join(notes), 86)
    figure.supxlabel(text, x=0.01, ha="left", fontsize=5.5, color="#505050", linespacing=1.3)
    return text.count("\n") + 1
