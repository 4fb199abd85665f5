"""The figure of accuracy versus measured latency, one per (dataset, network) of a suite that times its networks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from daar.report import drawing
from daar.report.collect import state
from daar.report.drawing import Look, Series
from daar.report.names import pair_title
from daar.report.statistics import dense, summarise
from daar.suite.names import Names

_BATCHES = (1, 128)
_PANEL_INCHES = 1.6


def timed(rows: pd.DataFrame) -> list[int]:
    """The batch sizes at which every row has a latency."""
    return [size for size in _BATCHES if rows[f"latency_ms_slim_b{size}"].notna().all()]


def points(rows: pd.DataFrame, size: int) -> pd.DataFrame:
    """A row per (variant, policy, target), with means and sample standard deviations over seeds.

    Args:
        rows: rows of results.csv of one (dataset, network).
        size: images in a batch.

    Returns:
        variant, policy, `ms` (milliseconds of one batch), `ms_std`, `top1` (percent, tuned, test), `top1_std` (0 where
        it is undefined), and `front`: whether no other is both as fast and as accurate.
    """
    means = []
    for (variant, policy, _), group in rows.groupby(["variant", "policy", "target"], dropna=False):
        row: dict[str, Any] = {"variant": variant, "policy": policy}
        for name, column in (("ms", f"latency_ms_slim_b{size}"), ("top1", "top1_tuned")):
            row[name], std, _ = summarise(group[column])
            row[f"{name}_std"] = 0.0 if np.isnan(std) else std
        means.append(row)
    table = pd.DataFrame(means)
    return table.assign(front=pareto(table["ms"].to_numpy(), table["top1"].to_numpy()))


def pareto(ms: Any, top1: Any) -> Any:
    """Which points no other dominates, by being no slower, no less accurate, and better in one; bool (n,)."""
    ms, top1 = np.asarray(ms), np.asarray(top1)
    no_worse = (ms[None] <= ms[:, None]) & (top1[None] >= top1[:, None])
    better = (ms[None] < ms[:, None]) | (top1[None] > top1[:, None])
    return ~(no_worse & better).any(axis=1)


def draw_accuracy_latency(rows: pd.DataFrame, names: Names, given: Mapping[str, Look]) -> Figure:
    """Tuned test top-1 versus the median time of a batch, a panel per batch size, with the Pareto front.

    Args:
        rows: rows of results.csv of one (dataset, network), timed at one batch size at least.
        names: of the rows.
        given: variant → its look.
    """
    sizes = timed(rows)
    series = drawing.series_of(rows, names, given)
    figure = Figure(dpi=drawing.PNG_DPI, layout="constrained")
    panels = list(figure.subplots(len(sizes), 1, squeeze=False)[:, 0])
    for panel, size in zip(panels, sizes, strict=True):
        drawing.mark(panel, "panel", str(size))
        _draw_front(panel, points(rows, size))
        for one in series:
            _draw(panel, points(rows, size), one, size)
        _draw_dense(panel, rows, size)
        panel.set_xlim(left=max(0.0, panel.get_xlim()[0]))  # whatever error bars reach to
        panel.set_xlabel(f"Milliseconds for a batch of {size} image{'s' if size > 1 else ''}")
    panels[0].set_title(pair_title(rows["network"].iloc[0], rows["dataset"].iloc[0]), loc="left")
    figure.supylabel(f"Test top-1, {state(rows)} (%)", fontsize=7)
    lines = drawing.legend(figure, panels) + drawing.footnote(
        figure, [*_notes(rows), drawing.cut_note(panels)], rows["method"]
    )
    drawing.set_height(figure, _PANEL_INCHES * len(sizes), lines)
    return figure


def _draw(panel: Axes, placed: pd.DataFrame, one: Series, size: int) -> None:
    own = placed[(placed["variant"] == one.variant) & (placed["policy"] == one.policy)].sort_values("ms")
    drawn, _, _ = panel.errorbar(
        own["ms"],
        own["top1"],
        xerr=own["ms_std"],
        yerr=own["top1_std"],
        color=one.look.colour,
        marker=one.look.marker,
        markersize=4.4,
        markeredgewidth=0.6,
        fillstyle=one.fill,
        linestyle="none",
        elinewidth=0.6,
        label=one.label,
        zorder=3,
        **drawing.edge(one),
    )
    drawing.mark(drawn, "mean", str(size), one.variant, one.policy)


def _draw_front(panel: Axes, placed: pd.DataFrame) -> None:
    """Steps: the best accuracy there is within a time."""
    front = placed[placed["front"]].sort_values("ms")
    panel.plot(
        front["ms"], front["top1"], drawstyle="steps-post", color="black", linewidth=0.6, linestyle=":", zorder=1,
        label="Pareto front",
    )  # fmt: skip


def _draw_dense(panel: Axes, rows: pd.DataFrame, size: int) -> None:
    ms, top1 = rows[f"latency_ms_dense_b{size}"].mean(), dense(rows)["top1_dense_mean"]
    panel.plot([ms], [top1], color="black", marker="*", markersize=6, linestyle="none", label="Dense", zorder=4)


def _notes(rows: pd.DataFrame) -> list[str]:
    machines = sorted({str(gpu if pd.notna(gpu) else cpu) for cpu, gpu in zip(
        rows["hardware_cpu"], rows["hardware_gpu"], strict=True)})  # fmt: skip
    return [
        f"{drawing.mean_note(rows)}; a time is the median over interleaved windows, in float32. "
        f"Hardware: {', '.join(machines)}.",
        "Pareto front: no other variant is both as fast and as accurate.",
    ]
