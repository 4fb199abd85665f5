"""What all figures share: width, style, the looks of variants, legend and footnote, and writing PNG and SVG.

They do not depend on Matplotlib's global state, which is left as it was; equal figures give equal bytes.
"""

import math
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from daar.report.names import seeds_counted
from daar.report.table_text import RECONSTRUCTION
from daar.storage.files import atomic
from daar.suite.names import Names

if TYPE_CHECKING:  # the page takes looks from here and draws nothing
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

WIDTH_INCHES = 90 / 25.4  # one column of a journal
PANELS_INCHES = 3.1
LINE_INCHES = 0.13  # of legend or footnote
PNG_DPI = 200
_MANY = 6  # entries of a legend; with more it is long

# Okabe & Ito's colours: distinct for colour-blind readers and, with the markers, in grey print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
CONTROL_COLOURS = ("#707070", "#a0a0a0")
CONTROL_MARKERS = ("<", ">", "d")  # a pentagon looks like a disc where it is small
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
    "text.parse_math": False,  # a dollar in a name is a dollar
    "svg.fonttype": "none",  # text stays text: it can be searched and edited
    "svg.hashsalt": "daar",  # ids depend on the content alone
}


class Look(NamedTuple):
    """How a variant is drawn."""

    colour: str
    marker: str


class Series(NamedTuple):
    """A (variant, policy), as a line of a figure and its entry in the legend.

    Attributes:
        variant: in the suite.
        policy: that made its counts.
        label: what a reader should see.
        look: the variant's.
        line: matplotlib's line style, of the policy.
        fill: matplotlib's fill style of markers, of the policy.
    """

    variant: str
    policy: str
    label: str
    look: Look
    line: str
    fill: str


def looks(variants: Iterable[str], controls: Collection[str]) -> dict[str, Look]:
    """A look for every variant, the same in all figures of one suite; controls are grey."""
    names = sorted(set(variants), key=lambda name: (name != "daar", name))  # DAAR has one look in all suites
    ordinary, grey = [n for n in names if n not in controls], [n for n in names if n in controls]
    given = {}
    for group, colours, markers in ((ordinary, COLOURS, MARKERS), (grey, CONTROL_COLOURS, CONTROL_MARKERS)):
        for index, name in enumerate(group):
            given[name] = Look(colours[index % len(colours)], markers[index % len(markers)])
    return given


def looks_of(results: pd.DataFrame) -> dict[str, Look]:
    """The looks of all variants in rows of results.csv."""
    return looks(results["variant"], set(results.loc[results["control"], "variant"]))


def series_of(rows: pd.DataFrame, names: Names, given: Mapping[str, Look]) -> list[Series]:
    """The series of a figure, controls last.

    Args:
        rows: rows of results.csv of one (dataset, network).
        names: of the rows.
        given: variant → its look.
    """
    keys = rows[["control", "variant", "policy"]].drop_duplicates().sort_values(["control", "variant", "policy"])
    listed: list[Series] = []
    for _, variant, policy in keys.itertuples(index=False):
        line, fill = POLICY_LOOKS[sum(one.variant == variant for one in listed) % len(POLICY_LOOKS)]
        listed.append(Series(variant, policy, names.row(variant, policy), given[variant], line, fill))
    return listed


def legend(figure: "Figure | SubFigure", panels: "Iterable[Axes]", *, small: bool = False) -> int:
    """Put one legend of all panels above them, in smaller print if it is long; returns how many lines it takes.

    Args:
        figure: that has the panels.
        panels: whose artists have labels; equal labels are one entry.
        small: whether it is in smaller print in any case.
    """
    entries: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    size, width = (
        (6.5, 60) if len(entries) <= _MANY and not small else (5, 76)
    )  # points, and characters that a line holds
    labels = [textwrap.fill(label, width) for label in entries]
    columns = 2 if max(map(len, labels)) <= width // 2 else 1
    figure.legend(
        entries.values(), labels, loc="outside upper left", ncols=columns, handlelength=1.6, columnspacing=1.2,
        fontsize=size, labelspacing=0.5 if size > 6 else 0.35,
    )  # fmt: skip
    return math.ceil(sum(label.count("\n") + 1 for label in labels) / columns * size / 6.5)


def footnote(figure: "Figure", notes: Sequence[str], methods: Iterable[str]) -> int:
    """Say below the panels how to read them; returns how many lines it takes.

    Args:
        figure: whose panels they are.
        notes: sentences.
        methods: whose numbers they show; DAAR's are a reconstruction's, and it is said.
    """
    text = textwrap.fill(" ".join([*filter(None, notes), *([RECONSTRUCTION] if "daar" in set(methods) else [])]), 86)
    figure.supxlabel(text, x=0.01, ha="left", fontsize=5.5, color="#505050", linespacing=1.3)
    return text.count("\n") + 1


def mark(artist: "Artist", *parts: str) -> None:
    """Give what shows data an id in the SVG, so that programs can read the numbers back.

    Args:
        artist: a panel, whose ticks say what a place means, or what is drawn into it.
        parts: `panel` and the panel's name; or what it shows, the panel's name, and the series.
    """
    artist.set_gid(":".join(parts))


def edge(one: Series) -> dict[str, Any]:
    """Keywords of matplotlib's markers that keep those that overlap apart: a white rim around filled ones."""
    inside = {"markerfacecoloralt": "white"} if one.fill != "none" else {}
    return inside | {"markeredgecolor": "white" if one.fill == "full" else one.look.colour}


def cut_note(panels: "Iterable[Axes]", axis: str = "y") -> str:
    """That axes do not start at 0, where one does not; blank where all do."""
    starts = [panel.get_ylim()[0] if axis == "y" else panel.get_xlim()[0] for panel in panels]
    return "Axes of accuracy do not start at 0." if any(start > 0 for start in starts) else ""


def mean_note(rows: pd.DataFrame) -> str:
    """What a point and its error bar are, without a full stop."""
    several = rows["seed"].nunique() > 1
    return f"Mean ± sample standard deviation over {seeds_counted(rows)}" if several else "One seed"


def base_note(rows: pd.DataFrame) -> str:
    """What seeds vary where the dense network was imported, to follow `mean_note`; blank where it was trained."""
    return "; one dense network, which seeds do not vary" if rows["imported"].any() else ""


def set_height(figure: "Figure", panels_inches: float, lines: int) -> None:
    """Give it one column's width; legend and footnote make it taller, not the panels flatter."""
    figure.set_size_inches(WIDTH_INCHES, panels_inches + LINE_INCHES * lines)


def write(stem: Path, draw: "Callable[[], Figure]") -> list[Path]:
    """Draw in our style and write `<stem>.png` and `<stem>.svg`; returns their paths."""
    import matplotlib.style

    paths = []
    with matplotlib.style.context(["default", STYLE]):
        figure = draw()
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            paths.append(stem.with_name(f"{stem.name}.{kind}"))
            with atomic(paths[-1]) as temporary:
                figure.savefig(temporary, metadata=metadata)
    return paths
