"""Panels whose rows are the rows of a table: named at their left, in an order of their own."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from daar.report import drawing
from daar.report.drawing import Series

_WIDTHS = (22, 26, 30, 36)  # characters in a line of a row's name
_ROW_INCHES, _LINE_INCHES = 0.155, 0.09
_LARGER = "PX*"  # markers that are thin
# single seeds are drawn below their mean: the places of rows are no quantity
_BELOW = 0.3


def labels(series: Sequence[Series]) -> list[str]:
    """The names of rows, broken into two lines where they are long."""
    for width in _WIDTHS:
        names = [textwrap.fill(one.label, width) for one in series]
        if max(name.count("\n") for name in names) < 2:
            break
    return names


def height(names: Sequence[str]) -> float:
    """Of a panel with rows of these names, in inches."""
    return len(names) * max(_ROW_INCHES, 0.02 + _LINE_INCHES * (1 + max(name.count("\n") for name in names)))


def name_rows(panel: Axes, names: Sequence[str]) -> None:
    """Name the rows, the first at the top."""
    panel.set_yticks(range(len(names)), names, fontsize=5.5)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x")


def draw_row(panel: Axes, place: int, mean: float, one: Series, fill: str | None = None, **marks: Any) -> Any:
    """A row's marker; returns its line.

    Args:
        panel: to draw on.
        place: of the row, from the top.
        mean: where the marker goes.
        one: the series.
        fill: in place of the series' own.
        marks: further keywords of matplotlib's `plot`.
    """
    style = one if fill is None else one._replace(fill=fill)
    marks = {
        "marker": one.look.marker,
        "markersize": 5 if one.look.marker in _LARGER else 4,
        "fillstyle": style.fill,
        **drawing.edge(style),
        **marks,
    }
    (line,) = panel.plot(
        [mean], [place], color=one.look.colour, linestyle="none", markeredgewidth=0.7, zorder=3, **marks
    )
    return line


def draw_bar(panel: Axes, place: int, low: float, high: float, one: Series) -> Any:
    """A row's error bar, from `low` to `high`; returns its collection. NaN draws nothing."""
    return panel.hlines([place], [low], [high], color=one.look.colour, linewidth=0.9, zorder=2)


def draw_seeds(panel: Axes, place: int, values: Any, one: Series) -> Any:
    """A row's single seeds, below the marker; returns their collection."""
    values = np.asarray(values, dtype=float)
    return panel.scatter(
        values, np.full(len(values), place + _BELOW), s=3.5, color=one.look.colour, alpha=0.6, linewidth=0, zorder=2
    )
