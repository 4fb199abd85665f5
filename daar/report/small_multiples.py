"""Panels by target: a few series share one; of many, each has a panel of its own, with the others faint behind it."""

import itertools
import textwrap
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from daar.report import drawing
from daar.report.drawing import Look, Series
from daar.report.names import removed, seeds_counted

MOST = 6  # series that a reader can distinguish in one panel
FAINT = Look("#c8c8c8", "")
# height of a panel that is shared (True) or alone (False), and of a line of its title
INCHES = {True: 1.35, False: 0.62}
TITLE_INCHES = 0.12
_TITLE = 62
_COLUMNS = 3  # targets side by side, each panel still wide enough

Key = tuple[float | None, Series]
Line = Callable[[Axes, float | None, Series, Look], None]


class Panel(NamedTuple):
    """A panel.

    Attributes:
        title: above it.
        target: fraction of MACs removed, or None for ratios of their own.
        shown: series in colour; all others of its target are faint.
        alone: whether it is one of many, which need no legend: the title says what it shows.
    """

    title: str
    target: float | None
    shown: tuple[Series, ...]
    alone: bool


def panels(keys: Collection[Key], pair: str, width: int = _TITLE) -> list[Panel]:
    """One panel per target, or one per target and series where a target has more than MOST series.

    Args:
        keys: the (target, series) there are, in the order of drawing.
        pair: network and dataset, as a reader should see them.
        width: characters in a line of a title of one of many.
    """
    listed = []
    targets = sorted({target for target, _ in keys}, key=lambda target: (target is None, target))
    for target in targets:
        own = tuple(series for other, series in keys if other == target)
        words = "at ratios of their own" if target is None else removed(target)
        if len(own) <= MOST:
            listed.append(Panel(f"{pair}, {words}", target, own, False))
        else:
            listed += [Panel(textwrap.fill(f"{one.label}, {words}", width), target, (one,), True) for one in own]
    return listed


def draw(
    figure: Figure,
    pair: str,
    keys: Collection[Key],
    line: Line,
    below: float = 0,
) -> tuple[list[Axes], float, int]:
    """Make the panels, draw the series into them, and put a legend or a title above.

    There is one column; where every panel is of one series and none comes below, there is one for each target.

    Args:
        figure: without panels yet.
        pair: network and dataset, as a reader should see them.
        keys: the (target, series) there are.
        line: draws a series of a target into a panel, in the given look: its own, or FAINT where it stays behind.
        below: height of one more, empty, panel below them, in inches; 0 for none.

    Returns:
        All panels, their height in inches, and how many lines are above them.
    """
    rows: list[list[Panel | None]] = [[panel] for panel in panels(keys, pair)] if below else _rows(keys, pair)
    heights = [max(INCHES[not panel.alone] for panel in row if panel) for row in rows] + ([below] if below else [])
    grid = figure.subplots(len(heights), len(rows[0]), sharex=True, height_ratios=heights, squeeze=False)
    places = {panel: grid[r, c] for r, row in enumerate(rows) for c, panel in enumerate(row) if panel}
    axes = [*places.values(), *([grid[-1, 0]] if below else [])]
    for unused in {*grid.flat} - {*axes}:
        unused.remove()
    for panel, ax in places.items():
        _fill(panel, ax, keys, line)
    titles = sum(max(panel.title.count("\n") + 1 for panel in row if panel) for row in rows)
    shared = [ax for panel, ax in places.items() if not panel.alone]
    if shared:
        above = drawing.legend(figure, shared)
    else:  # every panel says what it shows, but not of which network
        figure.suptitle(pair, x=0.01, ha="left", fontsize=8)
        above = 1
    return axes, sum(heights) + TITLE_INCHES * titles, above


def _fill(panel: Panel, ax: Axes, keys: Collection[Key], line: Line) -> None:
    """Draw a panel's series, the faint ones first, and its title."""
    for target, one in keys:
        if target == panel.target and one not in panel.shown:
            line(ax, target, one, FAINT)
    for one in panel.shown:
        line(ax, panel.target, one, one.look)
    ax.set_title(panel.title, loc="left", fontsize=6.5, pad=3)


def _rows(keys: Collection[Key], pair: str) -> list[list[Panel | None]]:
    """The panels row by row: a column for each of few targets if all panels are of one series, else one column."""
    targets = len({target for target, _ in keys})
    if 1 < targets <= _COLUMNS and all(panel.alone for panel in panels(keys, pair)):
        narrow = panels(keys, pair, _TITLE // targets - 4)
        columns = [list(own) for _, own in itertools.groupby(narrow, key=lambda panel: panel.target)]
        return [list(row) for row in itertools.zip_longest(*columns)]
    return [[panel] for panel in panels(keys, pair)]


def draw_band(panel: Axes, x: Any, values: Any, one: Series, look: Look, **marks: Any) -> None:
    """A series as the mean over its seeds, with a band from the least to the most.

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
    panel.plot(
        x,
        np.nanmean(values, axis=0),
        color=look.colour,
        marker=look.marker,
        markeredgewidth=0.5,
        fillstyle=one.fill,
        linestyle=one.line,
        linewidth=0.5 if faint else 0.8,
        label="_" if faint else one.label,
        zorder=1 if faint else 3,
        **marks,
    )


def band_note(rows: pd.DataFrame) -> str:
    """How to read the bands."""
    several = rows["seed"].nunique() > 1
    return f"Mean over {seeds_counted(rows)}; band: from the least to the most." if several else "One seed."
