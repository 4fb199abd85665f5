"""Panels by target: a few series share one; of many, some share one, with all others faint behind it."""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from daar.report import drawing
from daar.report.drawing import Look, Series
from daar.report.names import removed, seeds_counted

MOST = 7  # series that a reader can distinguish in one panel
PANELS = 9  # that a reader can compare in one picture
FAINT = Look("#d4d4d4", "")
INCHES = 1.35  # height of a panel
_HEAD_INCHES = 0.2  # of a panel's title

Key = tuple[float | None, Series]
Line = Callable[[Axes, float | None, Series, Look], None]


class Grid(NamedTuple):
    """The panels of a figure.

    Attributes:
        axes: all of them, those of a row next to each other.
        columns: how many are in a row.
        below: one more, empty, below them; or None.
        inches: the height of all.
        lines: of legends.
    """

    axes: list[Axes]
    columns: int
    below: Axes | None
    inches: float
    lines: int


def groups(series: Sequence[Series], targets: int) -> list[list[Series]]:
    """Which series share a panel: as few as there is room for in PANELS."""
    most = max(MOST, math.ceil(len(series) / max(1, PANELS // targets)))
    count = math.ceil(len(series) / most)
    size = math.ceil(len(series) / count)
    return [list(series[start : start + size]) for start in range(0, len(series), size)]


def draw(figure: Figure, pair: str, keys: Collection[Key], line: Line, below: float = 0) -> Grid:
    """Make the panels, draw the series into them, and put a legend above.

    One column, a panel for each target; where there are too many series for one panel, a column for each target.

    Args:
        figure: without panels yet.
        pair: network and dataset, as a reader should see them.
        keys: the (target, series) there are.
        line: draws a series of a target into a panel, in the given look: its own, or FAINT where it stays behind.
        below: height of one more, empty, panel below them, in inches; 0 for none.
    """
    targets = sorted({target for target, _ in keys}, key=lambda target: (target is None, target))
    shown = groups(list(dict.fromkeys(series for _, series in keys)), len(targets))
    if len(shown) == 1:
        return _draw_together(figure, pair, targets, keys, line, below)
    return _draw_groups(figure, pair, targets, shown, keys, line, below)


def words(target: float | None) -> str:
    """A target in a panel's title."""
    return "at ratios of their own" if target is None else removed(target)


def _draw_together(
    figure: Figure, pair: str, targets: Sequence[float | None], keys: Collection[Key], line: Line, below: float
) -> Grid:
    heights = [INCHES] * len(targets) + ([below] if below else [])
    grid = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    axes = list(grid[: len(targets)])
    for panel, target in zip(axes, targets, strict=True):
        _fill(panel, target, [series for other, series in keys if other == target], keys, line)
        panel.set_title(f"{pair}, {words(target)}", loc="left", fontsize=6.5, pad=3)
    inches = sum(heights) + _HEAD_INCHES * len(targets)
    return Grid(axes, 1, grid[-1] if below else None, inches, drawing.legend(figure, axes))


def _draw_groups(
    figure: Figure,
    pair: str,
    targets: Sequence[float | None],
    shown: Sequence[list[Series]],
    keys: Collection[Key],
    line: Line,
    below: float,
) -> Grid:
    """A row of panels for each group, with a legend of its own above it."""
    heads = [math.ceil(len(group) / 2) * drawing.LINE_INCHES * 0.85 + _HEAD_INCHES for group in shown]
    heights = [INCHES + head for head in heads] + ([below + 0.3] if below else [])
    blocks = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    axes: list[Axes] = []
    for block, group in zip(blocks, shown, strict=False):
        row = list(block.subplots(1, len(targets), sharex=True, sharey=True, squeeze=False)[0])
        for panel, target in zip(row, targets, strict=True):
            _fill(panel, target, [series for other, series in keys if other == target and series in group], keys, line)
            panel.set_title(words(target), loc="left", fontsize=6, pad=2)
        drawing.legend(block, row, small=True)
        axes += row
    figure.suptitle(pair, x=0.01, ha="left", fontsize=8)
    last = blocks[-1].subplots() if below else None
    return Grid(axes, len(targets), last, sum(heights), 1)


def _fill(panel: Axes, target: float | None, shown: Sequence[Series], keys: Collection[Key], line: Line) -> None:
    """Draw a panel's series, the faint ones first."""
    for other, series in keys:
        if other == target and series not in shown:
            line(panel, target, series, FAINT)
    for series in shown:
        line(panel, target, series, series.look)


def draw_band(panel: Axes, x: Any, values: Any, one: Series, look: Look, **marks: Any) -> Any:
    """A series as the mean over its seeds, with a band from the least to the most; returns its line.

    Args:
        panel: to draw on.
        x: (n,).
        values: (seeds, n); NaN where a seed has none.
        one: the series.
        look: its own, or `FAINT` behind another series.
        marks: further keywords of matplotlib's `plot`, for the markers.
    """
    faint = look is FAINT
    if not faint and len(values) > 1:
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        panel.fill_between(x, low, high, color=look.colour, alpha=0.2, linewidth=0, zorder=2)
    (line,) = panel.plot(
        x,
        np.nanmean(values, axis=0),
        color=look.colour,
        marker=look.marker,
        markeredgewidth=0.3,
        fillstyle=one.fill,
        linestyle=one.line,
        linewidth=0.5 if faint else 0.8,
        label="_" if faint else one.label,
        zorder=1 if faint else 3,
        **({} if faint else drawing.edge(one) | marks),
    )
    return line


def band_note(rows: pd.DataFrame) -> str:
    """How to read the bands."""
    several = rows["seed"].nunique() > 1
    return f"Mean over {seeds_counted(rows)}; band: from the least to the most." if several else "One seed."
