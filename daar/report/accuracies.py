"""The table of accuracies and sizes of one (dataset, network): as numbers, and as a page."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from daar.report import comparison, fairness
from daar.report.collect import finished, untuned
from daar.report.context import Context
from daar.report.differences import BEST, DAAR, Difference, Key, between, by_seed, differences, ranked
from daar.report.names import pair_title
from daar.report.notes import on_accuracies, on_differences, on_failures
from daar.report.sheet import Cell, Grid, Heading, Section, Sheet, grid
from daar.report.statistics import by_variant, dense
from daar.report.table_text import (
    count,
    difference,
    left_and_removed,
    mean_std_n,
    percent,
    seeds,
    signed,
    target_heading,
)
from daar.suite.names import Names

# what a row of the numeric table is; its numbers follow
_FRONT = ["dataset", "network", "own_ratios", "target", "variant", "title", "method", "policy", "scope", "control"]
_VERSUS = {BEST: "vs best comparison", DAAR: "vs DAAR"}
_HEADS = (
    "Method",
    "Policy",
    "Dense top-1",
    "Pruned top-1 (no tuning)",
    "BN recalibrated",
    "Tuned top-1",
    "Δ (tuned − dense)",
    *_VERSUS.values(),
    "Dense top-5",
    "Tuned top-5",
    "FLOPs (MACs), removed",
    "Params, removed",
    "MACs by thop",
    "Best-val top-1",
    "Val top-1",
    "Machine",
)
# row → its cell of the last column
_Machines = dict[tuple[Any, ...], dict[str, Cell | str]]
# where nothing was tuned: other names, and None for columns that would say the same again
_UNTUNED = {
    "Tuned top-1": "Untuned top-1",
    "Tuned top-5": "Untuned top-5",
    "Δ (tuned − dense)": "Δ (untuned − dense)",
    "BN recalibrated": None,
    "Best-val top-1": None,
}
_NARROW = (
    *("Method", "Policy", "Dense top-1", "Tuned top-1", "Δ (tuned − dense)", next(iter(_VERSUS.values()))),
    *("FLOPs (MACs), removed", "Params, removed"),
)


def table(rows: pd.DataFrame, names: Names) -> pd.DataFrame:
    """The numeric table of one (dataset, network).

    Args:
        rows: its rows of results.csv.
        names: of the rows.

    Returns:
        The columns of `by_variant` with a title. First the dense row; then the targets, lowest
        first, each with its rows by tuned accuracy, the highest first; then the rows at ratios
        of their own, most MACs first.
    """
    frame = by_variant(rows)
    frame["title"] = list(map(names.row, frame["variant"], frame["policy"]))
    order = frame.assign(
        target=frame["target"].where(~frame["own_ratios"]),
        macs=-frame["macs_slim_mean"].where(frame["own_ratios"]),
        top1=-frame["top1_tuned_mean"],
        title=frame["title"].str.casefold(),
    ).sort_values(["own_ratios", "target", "macs", "top1", "title", "variant", "policy"])
    first = pd.DataFrame([dict(frame.iloc[0][["dataset", "network"]]) | {"title": "Dense"} | dense(rows)])
    whole = pd.concat([first, frame.loc[order.index]], ignore_index=True)
    return whole[[*_FRONT, *(name for name in frame.columns if name not in _FRONT)]]


def sheet(rows: pd.DataFrame, context: Context, compared: pd.DataFrame | None = None) -> Sheet:
    """The page of one (dataset, network): what was done, the table, and what to keep in mind.

    Rows at ratios of their own have a second table.

    Args:
        rows: its rows of results.csv.
        context: what the suite says of them.
        compared: their `differences`, if they have been taken already.
    """
    compared = differences(rows, context.names) if compared is None else compared
    numeric = table(rows, context.names).to_dict("records")
    whole, pruned = numeric[0], numeric[1:]
    machines = _machines(rows)
    own = fairness.own_ratios(rows)
    parts = []
    if not own.all():
        cells = [_cells(whole), *_by_target(rows[~own], pruned, context, compared, machines)]
        parts.append(Section(None, comparison.facts(rows[~own], context), _grid(cells, rows)))
    if own.any():
        cells = [_cells(whole), *(_cells(row) | machines.get(_place(row), {}) for row in pruned if row["own_ratios"])]
        heading = "At ratios of their own, by MACs"
        parts.append(Section(heading, comparison.facts(rows[own], context), _grid(cells, rows)))
    title = pair_title(str(whole["network"]), str(whole["dataset"]))
    notes = (*on_accuracies(rows), *on_differences(rows[~own], context), *on_failures(rows, context))
    return Sheet(title, tuple(parts), notes)


def _grid(cells: Iterable[Heading | Mapping[str, Cell | str]], rows: pd.DataFrame) -> Grid:
    called: dict[str, str | None] = {head: head for head in _HEADS}
    if untuned(rows):
        called |= _UNTUNED

    def named(row: Heading | Mapping[str, Cell | str]) -> Heading | Mapping[str, Cell | str]:
        return row if isinstance(row, Heading) else {name: row[head] for head in row if (name := called[head])}

    heads, narrow = ([name for head in all_of if (name := called[head])] for all_of in (_HEADS, _NARROW))
    return grid(map(named, cells), heads, 2, narrow)


def _by_target(
    rows: pd.DataFrame, pruned: list[dict[Any, Any]], context: Context, compared: pd.DataFrame, machines: _Machines
) -> Iterator[Heading | dict[str, Cell | str]]:
    versus = _versus(compared, rows["seed"].nunique())
    for target in sorted(rows["target"].unique()):
        members = rows[rows["target"] == target]
        leader = _leader(members, context.names)
        yield Heading(target_heading(target))
        for row in pruned:
            if row["own_ratios"] or row["target"] != target:
                continue
            key = (row["variant"], row["policy"])
            cells: dict[str, Cell | str] = {**_cells(row), **versus.get((target, *key), {})}
            cells |= machines.get(_place(row), {})
            if key == leader:
                cells["Tuned top-1"] = Cell(str(cells["Tuned top-1"]), bold=True)
            yield cells


def _place(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    """What tells the rows of one table apart; None for the target of a row at ratios of its own."""
    return (None if row["own_ratios"] else row["target"], row["variant"], row["policy"])


def _machines(rows: pd.DataFrame) -> _Machines:
    """Row → the letters of the machines that its seeds were tuned on; none where all are of one kind."""
    done = finished(rows)
    letters = comparison.letters(done)
    if len(letters) < 2:
        return {}
    done = done.assign(own_ratios=fairness.own_ratios(done), letter=comparison.machines(done).map(letters))
    used: dict[tuple[Any, ...], set[str]] = {}
    for row in done.to_dict("records"):
        used.setdefault(_place(row), set()).add(row["letter"])
    return {place: {"Machine": ", ".join(sorted(names))} for place, names in used.items()}


def _leader(members: pd.DataFrame, names: Names) -> Key | None:
    """The method with the highest mean at one target, if the interval of its lead over the second excludes 0."""
    order = ranked(members, names)
    if len(order) < 2:
        return None
    tuned = by_seed(members)
    return order[0] if between(tuned[order[0]], tuned[order[1]]).tied is False else None


def _versus(compared: pd.DataFrame, usual: int) -> dict[tuple[Any, ...], dict[str, str]]:
    """(target, variant, policy) → column → the difference, or that the row is the reference."""
    cells: dict[tuple[Any, ...], dict[str, str]] = {}
    for line in compared.to_dict("records"):
        head = _VERSUS[line["reference"]]
        points = Difference(line["mean"], line["low"], line["high"], line["n"])
        cells.setdefault((line["target"], line["variant"], line["policy"]), {})[head] = difference(points, usual)
        reference = (line["target"], line["reference_variant"], line["reference_policy"])
        cells.setdefault(reference, {})[head] = "reference"
    return cells


def _of_dense(row: Mapping[Any, Any], which: str, is_dense: bool) -> str:
    """An accuracy of the dense networks: with its deviation in their own row, without in those of the slim ones."""
    if is_dense:
        return mean_std_n(row[f"{which}_mean"], row[f"{which}_std"], str(row["bases"]))
    return percent(row[f"{which}_mean"])


def _cells(row: Mapping[Any, Any]) -> dict[str, Cell | str]:
    """A row of the numeric table as text, by column head; what a dense row lacks is missing."""
    is_dense = pd.isna(row["method"])
    cells: dict[str, Cell | str] = {
        "Method": row["title"],
        "Dense top-1": _of_dense(row, "top1_dense", is_dense),
        "FLOPs (MACs), removed": left_and_removed(row["macs_slim_mean"], row["macs_reduction_mean"]),
        "Params, removed": left_and_removed(row["params_slim_mean"], row["params_reduction_mean"]),
        "MACs by thop": count(row["macs_slim_thop_mean"]),
    }
    # measured from 100 classes on
    if not pd.isna(row["top5_dense_mean"]):
        cells["Dense top-5"] = _of_dense(row, "top5_dense", is_dense)
    if is_dense:
        return cells
    if not pd.isna(row["top5_tuned_mean"]):
        cells["Tuned top-5"] = mean_std_n(row["top5_tuned_mean"], row["top5_tuned_std"], seeds(row))
    return cells | {
        "Policy": row["policy"],
        "Pruned top-1 (no tuning)": percent(row["top1_pruned_mean"]),
        "BN recalibrated": percent(row["top1_recalibrated_mean"]),
        "Tuned top-1": mean_std_n(row["top1_tuned_mean"], row["top1_tuned_std"], seeds(row)),
        "Δ (tuned − dense)": signed(row["delta_top1_mean"]),
        "Best-val top-1": "" if row["saw_val"] else percent(row["top1_best_val_mean"]),
        "Val top-1": "seen" if row["saw_val"] else percent(row["val_top1_tuned_mean"]),
    }
