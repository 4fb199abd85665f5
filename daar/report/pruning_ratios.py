"""The figure of pruning ratios over depth: how many filters of each channel group every method removes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from daar.errors import InputError
from daar.report import drawing, small_multiples
from daar.report.drawing import Look, Series
from daar.report.names import pair_title, seeds_counted
from daar.report.setting_files import read_each
from daar.report.small_multiples import Key
from daar.storage.documents import read_json
from daar.suite.names import Names, in_words

_NAMES = 36  # of groups that an axis holds, each readable
_LISTED = 4  # rows that a label names
_APART = 0.4  # of the room of a group, that its series take

# (target, series) → (seeds, groups)
Ratios = dict[Key, Any]


def load_ratios(results: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Read the plans next to a results.csv.

    Args:
        results: the results.csv.
        frame: its rows. Networks from scratch have no plan of their own, but another variant's.

    Returns:
        A row per setting and group: dataset, network, seed, variant, policy, target (NaN for ratios of its own),
        `group`, its place `depth` in the order of execution, and `ratio`, the fraction of its filters removed.

    Raises:
        InputError: a plan is absent or damaged.
    """
    return read_each(results, frame, "plan.json", _read, ("group", "depth", "ratio"))


def _read(path: Path) -> list[Mapping[str, Any]]:
    # validated when it was made and when it was followed; to do so again would take long for many
    content = read_json(path, "a plan")
    try:
        if not all(isinstance(group["kept"], list) for group in content["groups"]):
            raise TypeError("kept is no list")
        return [
            {"group": str(group["name"]), "depth": depth, "ratio": 1 - len(group["kept"]) / group["size"]}
            for depth, group in enumerate(content["groups"])
        ]
    except (AttributeError, KeyError, TypeError, ZeroDivisionError) as error:
        raise InputError(
            f"{path} should be a plan with groups of name, size and kept; it is not ({error!r}). "
            "Delete the file and run the suite again."
        ) from error


def draw_pruning_ratios(rows: pd.DataFrame, ratios: pd.DataFrame, names: Names, given: Mapping[str, Look]) -> Figure:
    """Percent of filters removed, mean over seeds and the band from least to most, by channel group; by target.

    Args:
        rows: rows of results.csv of one (dataset, network).
        ratios: of that pair, as `load_ratios` gives them.
        names: of the rows.
        given: variant → its look.

    Raises:
        InputError: two plans differ in their groups.
    """
    groups = _groups(ratios)
    merged = merge(ratios, drawing.series_of(rows, names, given))
    order = list(dict.fromkeys(series for _, series in merged))
    figure = Figure(dpi=drawing.PNG_DPI, layout="constrained")

    def line(panel: Axes, target: float | None, one: Series, look: Look) -> None:
        name = "own" if target is None else f"{target:g}"
        drawing.mark(panel, "panel", name)
        drawn = _draw(panel, 100 * merged[target, one], one, look, _aside(order, one))
        if look is not small_multiples.FAINT:
            drawing.mark(drawn, "mean", name, one.variant, one.policy)

    pair = pair_title(rows["network"].iloc[0], rows["dataset"].iloc[0])
    grid = small_multiples.draw(figure, pair, merged, line)
    for panel in grid.axes:
        panel.set_ylim(-3, 103)
        panel.set_yticks([0, 50, 100])
        panel.margins(x=0.02)
    most = _NAMES // grid.columns
    for panel in grid.axes[-grid.columns :]:
        _name_groups(panel, groups, most)
    for panel in grid.axes[: -grid.columns] if grid.columns > 1 else []:  # one column shares its ticks
        panel.set_xticks(range(len(groups)), [""] * len(groups))
    figure.supylabel("Pruning ratio: filters removed (%)", fontsize=7)
    lines = grid.lines + drawing.footnote(figure, _notes(rows, len(groups) <= most), rows["method"])
    longest = max(map(len, groups)) * 0.05
    drawing.set_height(figure, grid.inches + longest + 0.5, lines)
    return figure


def _aside(order: Sequence[Series], one: Series) -> float:
    """How far a few series stand apart within a group, whose places are no quantity; 0 where they are many."""
    if len(order) > small_multiples.MOST:
        return 0.0
    return _APART * (order.index(one) - (len(order) - 1) / 2) / max(len(order) - 1, 1)


def merge(ratios: pd.DataFrame, series: Sequence[Series]) -> Ratios:
    """Make one series of those with equal ratios at every target: methods that share a policy's widths.

    Args:
        ratios: as `load_ratios` gives them, of one (dataset, network).
        series: those of the figure.

    Returns:
        (target, series) → (seeds, groups) ratios; a merged series has the first one's look and names them all.
    """
    alike: dict[Any, list[Series]] = {}
    by_row: dict[Any, dict[Any, Any]] = {}
    for (variant, policy), own in ratios.groupby(["variant", "policy"]):
        by_row[variant, policy] = {
            None if pd.isna(target) else target: one.pivot_table(
                index="seed", columns="depth", values="ratio"
            ).to_numpy()
            for target, one in own.groupby("target", dropna=False)
        }
    for one in series:
        if (one.variant, one.policy) in by_row:
            content = by_row[one.variant, one.policy]
            key = tuple((target, values.shape, values.tobytes()) for target, values in content.items())
            alike.setdefault(key, []).append(one)
    result: Ratios = {}
    for members in alike.values():
        first = members[0]._replace(label=_label(members))
        for target, values in by_row[first.variant, first.policy].items():
            result[target, first] = values
    return result


def _label(members: Sequence[Series]) -> str:
    if len(members) <= _LISTED:
        return "; ".join(one.label for one in members)
    policies = {one.policy for one in members}
    rule = in_words(next(iter(policies))) if len(policies) == 1 else "same widths"
    return f"{rule}: {len(members)} rows"


def _groups(ratios: pd.DataFrame) -> list[str]:
    """The groups in the order of execution."""
    settings = ratios.groupby(["seed", "variant", "policy", "target"], dropna=False)["group"]
    listed: dict[tuple[str, ...], Any] = {}
    for setting, groups in settings:
        listed.setdefault(tuple(groups), setting)
    if len(listed) > 1:
        one, other = list(listed.values())[:2]
        raise InputError(
            f"the plans of variant {one[1]!r} (seed {one[0]}) and of {other[1]!r} (seed {other[0]}) should have the "
            "same channel groups, but have not. Delete plan.json of the outdated one and run the suite again."
        )
    return list(next(iter(listed)))


def _draw(panel: Axes, percent: Any, one: Series, look: Look, aside: float) -> Any:
    """Markers at the means, bars from the least to the most; a thin line leads the eye from group to group."""
    faint = look is small_multiples.FAINT
    x, mean = np.arange(percent.shape[1]) + aside, percent.mean(axis=0)
    if not faint:
        low, high = percent.min(axis=0), percent.max(axis=0)
        panel.vlines(x, low, high, color=look.colour, linewidth=1.6, alpha=0.35, zorder=2)
    (line,) = panel.plot(
        x, mean, color=look.colour, marker=look.marker, markersize=3, markeredgewidth=0.4, fillstyle=one.fill,
        linestyle=one.line, linewidth=0.35, label="_" if faint else one.label, zorder=1 if faint else 3,
        **({} if faint else drawing.edge(one)),
    )  # fmt: skip
    return line


def _name_groups(panel: Axes, names: Sequence[str], most: int) -> None:
    """Name the groups below the panel; if there are more than `most`, every second or third."""
    step = -(-len(names) // most)
    panel.set_xticks(range(0, len(names), step), names[::step], rotation=90, fontsize=5)
    panel.set_xticks(range(len(names)), minor=True)
    panel.tick_params(axis="x", labelbottom=True)  # a column may end before another
    panel.tick_params(axis="x", which="minor", length=1.5, width=0.4)


def _notes(rows: pd.DataFrame, all_named: bool) -> list[str]:
    named = "named by" if all_named else "every one a tick, named by"
    several = rows["seed"].nunique() > 1
    means = f"Mean over {seeds_counted(rows)}; bars: from the least to the most." if several else "One seed."
    return [
        means,
        f"Channel groups in the order of execution, {named} the first conv that makes their channels; scope "
        f"{rows['scope'].iloc[0]}. Lines only lead the eye.",
    ]
