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
from daar.report.names import pair_title
from daar.report.setting_files import read_each
from daar.report.small_multiples import Key
from daar.storage.documents import read_json

_NAMES = 36  # of groups that an axis holds, each readable
_LISTED = 3  # variants that a label names

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


def draw_pruning_ratios(
    rows: pd.DataFrame, ratios: pd.DataFrame, titles: Mapping[str, str], given: Mapping[str, Look]
) -> Figure:
    """Percent of filters removed, mean over seeds and the band from least to most, by channel group; by target.

    Args:
        rows: rows of results.csv of one (dataset, network).
        ratios: of that pair, as `load_ratios` gives them.
        titles: variant → what a reader should see.
        given: variant → its look.

    Raises:
        InputError: two plans differ in their groups.
    """
    names = _groups(ratios)
    merged = merge(ratios, drawing.series_of(rows, titles, given))
    figure = Figure(dpi=drawing.PNG_DPI, layout="constrained")

    def line(panel: Axes, target: float | None, one: Series, look: Look) -> None:
        _draw(panel, 100 * merged[target, one], one, look)

    pair = pair_title(rows["network"].iloc[0], rows["dataset"].iloc[0])
    panels, height, above = small_multiples.draw(figure, pair, merged, line)
    for panel in panels:
        panel.set_ylim(0, 100)
        panel.set_yticks([0, 50, 100])
        panel.margins(x=0.02)
    columns = {panel.get_position().x0: panel for panel in panels}  # the last panel of each column
    for panel in columns.values():
        _name_groups(panel, names, _NAMES // len(columns))
    figure.supylabel("Pruning ratio: filters removed (%)", fontsize=7)
    lines = above + drawing.footnote(figure, _notes(rows, len(names) <= _NAMES // len(columns)), rows["method"])
    longest = max(map(len, names)) * 0.05
    drawing.set_height(figure, height + longest + 0.5, lines)
    return figure


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
    if len(members) == 1:
        return members[0].label
    policies = {one.policy for one in members}
    policy = f"{next(iter(policies))}: " if len(policies) == 1 else ""
    if len(members) > _LISTED:
        return f"{policy}{len(members)} variants at the same widths"
    return policy + ", ".join(one.label.removesuffix(f", {one.policy}") if policy else one.label for one in members)


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


def _draw(panel: Axes, percent: Any, one: Series, look: Look) -> None:
    small_multiples.draw_band(panel, np.arange(percent.shape[1]), percent, one, look, markersize=2.6)


def _name_groups(panel: Axes, names: Sequence[str], most: int) -> None:
    """Name the groups below the panel; if there are more than `most`, every second or third."""
    step = -(-len(names) // most)
    panel.set_xticks(range(0, len(names), step), names[::step], rotation=90, fontsize=5)
    panel.set_xticks(range(len(names)), minor=True)
    panel.tick_params(axis="x", labelbottom=True)  # a column may end before another
    panel.tick_params(axis="x", which="minor", length=1.5, width=0.4)


def _notes(rows: pd.DataFrame, all_named: bool) -> list[str]:
    named = "named by" if all_named else "every one a tick, named by"
    return [
        small_multiples.band_note(rows),
        f"Channel groups in the order of execution, {named} the first conv that makes their channels; scope "
        f"{rows['scope'].iloc[0]}.",
    ]
