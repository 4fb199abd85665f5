"""How many series share a panel: a few in colour side by side, of many each in a panel of its own before the others."""

import textwrap
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from daar.report import drawing
from daar.report.drawing import Look, Series

MOST = 6  # series that can be told apart in one panel
FAINT = Look("#c8c8c8", "")
# of a panel: shared, alone, its title's lines
INCHES = {True: 1.35, False: 0.62}
TITLE_INCHES = 0.12

Key = tuple[float | None, Series]


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


def panels(keys: Collection[Key], pair: str) -> list[Panel]:
    """One panel per target, or one per target and series where a target has more than MOST series.

    Args:
        keys: the (target, series) there are, in the order of drawing.
        pair: network and dataset, as a reader should see them.
    """
    found = []
    targets = sorted({target for target, _ in keys}, key=lambda target: (target is None, target))
    for target in targets:
        own = tuple(series for other, series in keys if other == target)
        words = "at ratios of their own" if target is None else f"{100 * target:g}% of the MACs removed"
        if len(own) <= MOST:
            found.append(Panel(f"{pair}, {words}", target, own, False))
        else:
            found += [Panel(textwrap.fill(f"{one.label}, {words}", 62), target, (one,), True) for one in own]
    return found


def draw(
    figure: Figure,
    pair: str,
    keys: Collection[Key],
    line: Callable[[Axes, float | None, Series, Look], None],
    below: float = 0,
) -> tuple[list[Axes], float, int]:
    """Make the panels, one above the other, draw the series into them, and put a legend or a title above.

    Args:
        figure: without panels yet.
        pair: network and dataset, as a reader should see them.
        keys: the (target, series) there are.
        line: draws a series of a target into a panel, in the given look: its own, or FAINT where it stays behind.
        below: height of one more, empty, panel below them, in inches; 0 for none.

    Returns:
        All panels, their height in inches, and how many lines stand above them.
    """
    chosen = panels(keys, pair)
    heights = [INCHES[not panel.alone] for panel in chosen] + ([below] if below else [])
    axes = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0])
    for panel, ax in zip(chosen, axes, strict=False):
        for target, one in keys:
            if target == panel.target and one not in panel.shown:
                line(ax, target, one, FAINT)
        for one in panel.shown:
            line(ax, panel.target, one, one.look)
        ax.set_title(panel.title, loc="left", fontsize=6.5, pad=3)
    titles = sum(panel.title.count("\n") + 1 for panel in chosen)
    shared = [ax for ax, panel in zip(axes, chosen, strict=False) if not panel.alone]
    if shared:
        above = drawing.legend(figure, shared)
    else:  # every panel says what it shows, but not of which network
        figure.suptitle(pair, x=0.01, ha="left", fontsize=8)
        above = 1
    return axes, sum(heights) + TITLE_INCHES * titles, above


def draw_band(panel: Axes, x: Any, values: Any, one: Series, look: Look, **marks: Any) -> None:
    """A series as the mean over its seeds, with a band from the least to the most.

    Args:
        panel: to draw on.
        x: (n,).
        values: (seeds, n); NaN where a seed has none.
        one: the series.
        look: its own, or `FAINT` for what stands behind another series.
        marks: how its marks differ from those of other figures, as matplotlib's `plot` takes it.
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
