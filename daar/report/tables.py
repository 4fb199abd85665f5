"""The tables: one Markdown and one CSV file per (dataset, network), rebuilt from results.csv alone."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from daar.files import write_text
from daar.report import fairness
from daar.report.collect import read_results
from daar.report.names import pair_title
from daar.report.statistics import by_variant, dense

NONE = "–"
RECONSTRUCTION = "DAAR here is a reconstruction from the abstract; its numbers are not the paper's."

# left out where no row has it: measured from 100 classes on
_TOP5 = ("Dense top-5", "Tuned top-5")
# what a row of the numeric table is; its numbers follow
_FRONT = ["dataset", "network", "own_ratios", "target", "variant", "title", "method", "policy", "scope", "control"]
_HEADS = (
    "Method",
    "Policy",
    "Dense top-1",
    "Pruned top-1 (no tuning)",
    "BN recalibrated",
    "Tuned top-1",
    "Δ (tuned − dense)",
    "Dense top-5",
    "Tuned top-5",
    "FLOPs (MACs), removed",
    "Params, removed",
    "MACs by thop",
    "Best-val top-1",
    "Val top-1",
)


def write_tables(results: Path, folder: Path, titles: Mapping[str, str]) -> list[Path]:
    """Write `<dataset>-<network>.md` and `.csv` into `folder` for every pair in results.csv.

    Args:
        results: the results.csv.
        folder: where the tables go.
        titles: variant -> what a reader should see; a variant without one keeps its name.

    Returns:
        The files written.

    Raises:
        InputError: results.csv is damaged, or a comparison would not be fair; no table is
            written then.
    """
    frame = read_results(results)
    fairness.check(frame)
    paths = []
    for (dataset, network), rows in frame.groupby(["dataset", "network"]):
        stem = Path(folder) / f"{dataset}-{network}"
        for suffix, text in (
            (".md", markdown(rows, titles)),
            (".csv", table(rows, titles).to_csv(index=False, lineterminator="\n")),
        ):
            # not with_suffix: names may hold dots
            paths.append(stem.with_name(stem.name + suffix))
            write_text(paths[-1], text)
    return paths


def table(rows: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """The numeric table of one (dataset, network).

    Args:
        rows: its rows of results.csv.
        titles: variant -> what a reader should see.

    Returns:
        The columns of `by_variant` with a title. First the dense row; then the targets, lowest
        first, each with its methods by title and its controls last; then the rows at ratios of
        their own, most MACs first.
    """
    frame = by_variant(rows)
    frame["title"] = [titles.get(variant, variant) for variant in frame["variant"]]
    order = frame.assign(
        target=frame["target"].where(~frame["own_ratios"]),
        macs=-frame["macs_slim_mean"].where(frame["own_ratios"]),
        title=frame["title"].str.casefold(),
    ).sort_values(["own_ratios", "target", "macs", "control", "title", "variant", "policy"])
    first = pd.DataFrame([dict(frame.iloc[0][["dataset", "network"]]) | {"title": "Dense"} | dense(rows)])
    whole = pd.concat([first, frame.loc[order.index]], ignore_index=True)
    return whole[[*_FRONT, *(name for name in frame.columns if name not in _FRONT)]]


def markdown(rows: pd.DataFrame, titles: Mapping[str, str]) -> str:
    """The Markdown page of one (dataset, network): what was done, the table, and what to keep in mind.

    Rows at ratios of their own stand in a second table. Arguments as in `table`.
    """
    numeric = table(rows, titles).to_dict("records")
    whole, pruned = numeric[0], numeric[1:]
    own = fairness.own_ratios(rows)
    parts = [f"# {escape(pair_title(str(whole['network']), str(whole['dataset'])))}"]
    if not own.all():
        cells = [_cells(whole)]
        for target in sorted(rows.loc[~own, "target"].unique()):
            members = [row for row in pruned if not row["own_ratios"] and row["target"] == target]
            cells += [{"Method": f"**Target: {100 * target:g}% of the MACs removed**"}, *map(_cells, members)]
        parts += [_facts(rows[~own], titles), _grid(cells)]
    if own.any():
        cells = [_cells(whole), *(_cells(row) for row in pruned if row["own_ratios"])]
        parts += ["## At ratios of their own, by MACs", _facts(rows[own], titles), _grid(cells)]
    return "\n\n".join((*parts, _notes(rows))) + "\n"


def escape(text: str) -> str:
    """`text` so that Markdown prints it as it is, in one table cell."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$&])", r"\\\1", " ".join(text.split()))


def count(number: float) -> str:
    """A count with its unit: 62.7M, 4.09G; a dash for NaN."""
    if pd.isna(number):
        return NONE
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= size:
            return f"{number / size:.{1 if number >= 10 * size else 2}f}{unit}"
    return f"{number:.0f}"


def signed(points: float) -> str:
    """Points with their sign, a true minus; what rounds to zero has none."""
    text = f"{abs(points):.2f}"
    return text if text == "0.00" else ("−" if points < 0 else "+") + text


def _percent(mean: float) -> str:
    return NONE if pd.isna(mean) else f"{mean:.2f}"


def _spread(mean: float, std: float, n: int) -> str:
    return f"{mean:.2f} ({n})" if pd.isna(std) else f"{mean:.2f} ± {std:.2f} ({n})"


def _of_dense(row: Mapping[Any, Any], which: str, is_dense: bool) -> str:
    """An accuracy of the dense networks: with its spread in their own row, without in those of the slim ones."""
    if is_dense:
        return _spread(row[f"{which}_mean"], row[f"{which}_std"], row["bases"])
    return _percent(row[f"{which}_mean"])


def _cells(row: Mapping[Any, Any]) -> dict[str, str]:
    """A row of the numeric table as text, by column head; what a dense row lacks is missing."""
    is_dense = pd.isna(row["method"])
    cells = {
        "Method": escape(row["title"]) + (" (control)" if row["control"] else ""),
        "Dense top-1": _of_dense(row, "top1_dense", is_dense),
        "FLOPs (MACs), removed": f"{count(row['macs_slim_mean'])} ({100 * row['macs_reduction_mean']:.2f}%)",
        "Params, removed": f"{count(row['params_slim_mean'])} ({100 * row['params_reduction_mean']:.2f}%)",
        "MACs by thop": count(row["macs_slim_thop_mean"]),
    }
    if not pd.isna(row["top5_dense_mean"]):
        cells["Dense top-5"] = _of_dense(row, "top5_dense", is_dense)
    if is_dense:
        return cells
    if not pd.isna(row["top5_tuned_mean"]):
        cells["Tuned top-5"] = _spread(row["top5_tuned_mean"], row["top5_tuned_std"], row["n"])
    return cells | {
        "Policy": escape(row["policy"]),
        "Pruned top-1 (no tuning)": _percent(row["top1_pruned_mean"]),
        "BN recalibrated": _percent(row["top1_recalibrated_mean"]),
        "Tuned top-1": _spread(row["top1_tuned_mean"], row["top1_tuned_std"], row["n"]),
        "Δ (tuned − dense)": signed(row["delta_top1_mean"]),
        "Best-val top-1": "" if row["saw_val"] else _percent(row["top1_best_val_mean"]),
        "Val top-1": "seen" if row["saw_val"] else _percent(row["val_top1_tuned_mean"]),
    }


def _grid(rows: list[dict[str, str]]) -> str:
    # a row with a method alone is a heading, and stays empty to its right
    heads = [head for head in _HEADS if head not in _TOP5 or any(head in row for row in rows)]
    cells = [[row.get(head, NONE if len(row) > 1 else "") for head in heads] for row in rows]
    aligned = ("left", "left", *("right",) * (len(heads) - 2))
    return pd.DataFrame(cells, columns=heads).to_markdown(
        index=False, tablefmt="pipe", disable_numparse=True, colalign=aligned
    )


def _facts(rows: pd.DataFrame, titles: Mapping[str, str]) -> str:
    """How the rows of a table were made, as a Markdown list."""
    scope, images = escape(rows["scope"].iloc[0]), rows["calibration_images"].iloc[0]
    seeds = ", ".join(map(str, sorted(rows["seed"].unique())))
    return "\n".join(
        (
            f"- Scope: {scope}. Seeds: {seeds}. Calibration images: {images}.",
            f"- Tuning recipe: {_recipes(rows, titles)}.",
            f"- Hardware: {_hardware(rows)}.",
        )
    )


def _notes(rows: pd.DataFrame) -> str:
    """How to read the numbers, as a Markdown list."""
    notes = [
        "Accuracies are percent of the test images, Val top-1 of the validation images; tuned: last epoch, best-val: "
        "epoch with the best validation accuracy.",
        "Mean ± sample standard deviation (n). Δ is taken per seed, in points, then averaged.",
        "FLOPs means MACs: multiply-accumulates of conv and linear layers for one image; thop adds BN.",
    ]
    if rows["imported"].any():
        notes.append(
            f"One base, {rows['seed'].nunique()} tunings: the dense network was imported, so a seed sets only the "
            "calibration images, random importance and the order of tuning."
        )
    if rows["saw_val"].any():
        notes.append("The base was trained on the validation images: they are seen, and nothing was chosen on them.")
    if (rows["method"] == "daar").any():
        notes.append(RECONSTRUCTION)
    return "\n".join(f"- {note}" for note in notes)


def _recipes(rows: pd.DataFrame, titles: Mapping[str, str]) -> str:
    """The tuning recipe of the methods first, then those that controls alone have."""
    usual = set(rows.loc[~rows["control"], "recipe"])
    texts = []
    for (recipe, epochs), group in rows.groupby(["recipe", "epochs"]):
        text = f"`{recipe}`, {epochs} epoch{'' if epochs == 1 else 's'}"
        if recipe not in usual:
            text += " for " + ", ".join(escape(titles.get(name, name)) for name in sorted(set(group["variant"])))
        texts.append((recipe not in usual, text))
    return "; ".join(text for _, text in sorted(texts))


def _hardware(rows: pd.DataFrame) -> str:
    machines = {
        f"{escape(cpu)} ({cores} cores), {'no GPU' if pd.isna(gpu) else escape(gpu)}"
        for cpu, cores, gpu in zip(rows["hardware_cpu"], rows["hardware_cores"], rows["hardware_gpu"], strict=True)
    }
    return "; ".join(sorted(machines))
