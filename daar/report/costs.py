"""What each method costs: seconds, epochs and memory of its stages."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from daar.data import datasets
from daar.report import comparison
from daar.report.collect import finished
from daar.report.context import Context
from daar.report.names import pair_title
from daar.report.sheet import NONE, Cell, Section, Sheet, grid, headed
from daar.report.table_text import RECONSTRUCTION, target_heading
from daar.training.schedules import ONE_SHOT

STAGES = {"score": "Scoring", "plan": "Planning", "finetune": "Tuning", "measure": "Measuring"}
_KEY = ["target", "control", "title", "variant", "method", "policy"]
_HEADS = (
    *("Method", "Policy"),
    *(f"{name}, s" for name in STAGES.values()),
    *("Scoring, epochs", "Tuning, epochs", "Peak memory, MiB", "Seeds"),
)


def costs(rows: pd.DataFrame, context: Context) -> tuple[Sheet, pd.DataFrame]:
    """The page and the numbers of one (dataset, network).

    Args:
        rows: its rows of results.csv.
        context: names, and which variants read calibration images.

    Returns:
        The page; and one row per (target, variant, policy): `seconds_<stage>`, the median over seeds;
        `epochs_score`, the images read as a fraction of the train part, blank where a program of its own
        scores; `epochs_finetune`; `peak_memory_mib`, the highest of any stage and seed; `n` seeds.
    """
    numbers = frame(rows, context)
    title = f"Costs: {pair_title(str(rows['network'].iloc[0]), str(rows['dataset'].iloc[0]))}"
    done = finished(rows)
    facts = (f"Hardware: {comparison.hardware(done)}." if len(done) else "No setting has finished.",)
    cells = ((target_heading(row["target"]), _row(row)) for row in numbers.to_dict("records"))
    part = Section(None, facts, grid(headed(cells), _HEADS, 2, _HEADS))
    return Sheet(title, (part,), tuple(_notes(done))), numbers


def frame(rows: pd.DataFrame, context: Context) -> pd.DataFrame:
    """The numbers; see `costs`."""
    done = finished(rows).assign(
        title=lambda all_rows: list(map(context.names.row, all_rows["variant"], all_rows["policy"]))
    )
    memory = [f"peak_memory_mib_{stage}" for stage in STAGES]
    lines = []
    for key, group in done.groupby(_KEY, dropna=False):
        line: dict[str, Any] = dict(zip(_KEY, key, strict=True)) | {"n": len(group)}
        line |= {f"seconds_{stage}": group[f"seconds_{stage}"].median() for stage in STAGES}
        line |= {
            "epochs_score": _epochs_of_scoring(group.iloc[0].to_dict(), context),
            "epochs_finetune": group["epochs"].max(),
        }
        lines.append(line | {"peak_memory_mib": group[memory].max().max(), "top1": -group["top1_tuned"].mean()})
    columns = [*_KEY, "n", *(f"seconds_{stage}" for stage in STAGES), "epochs_score", "epochs_finetune"]
    numbers = pd.DataFrame(lines, columns=[*columns, "peak_memory_mib", "top1"])
    # as the table of accuracies: the most accurate first
    numbers = numbers.sort_values(["target", "top1", "title", "variant", "policy"], ignore_index=True)
    return numbers.drop(columns="top1")


def _epochs_of_scoring(row: Mapping[Any, Any], context: Context) -> float | None:
    """How much of the train part scoring reads; a control at another's widths scores nothing."""
    if row["variant"] in context.own_program or not datasets.is_known(row["dataset"]):
        return None
    images = row["calibration_images"] if row["variant"] in context.sees_images else 0
    return float(images) / datasets.get(row["dataset"]).train


def _row(row: Mapping[Any, Any]) -> Mapping[str, Cell | str]:
    return {
        "Method": row["title"],
        "Policy": row["policy"],
        **{f"{name}, s": _seconds(row[f"seconds_{stage}"]) for stage, name in STAGES.items()},
        "Scoring, epochs": NONE if pd.isna(row["epochs_score"]) else f"{row['epochs_score']:.3g}",
        "Tuning, epochs": str(row["epochs_finetune"]),
        "Peak memory, MiB": NONE if pd.isna(row["peak_memory_mib"]) else f"{row['peak_memory_mib']:.0f}",
        "Seeds": str(row["n"]),
    }


def _seconds(seconds: float) -> str:
    """Three digits, as no more of a time on a shared machine means anything."""
    return NONE if pd.isna(seconds) else f"{seconds:.{2 if seconds < 10 else 1 if seconds < 100 else 0}f}"


def _notes(done: pd.DataFrame) -> Iterator[str]:
    yield (
        "Seconds are the median over seeds of each stage's whole process, start included; of a tuning that was "
        "resumed, of all its epochs. Times of jobs that ran side by side on a shared machine are rough; "
        "python -m benchmarks times methods one by one."
    )
    yield (
        "Scoring, epochs: the calibration images that a method reads, as a fraction of the train images; nothing is "
        "trained by them. Tuning of a network from scratch is its whole training."
    )
    if (done["schedule"] != ONE_SHOT).any():
        yield "A schedule scores and plans while it tunes; those seconds count as tuning."
    yield "Peak memory: of the process on the CPU side, the highest of all stages and seeds."
    if len(done[["hardware_cpu", "hardware_cores", "hardware_gpu"]].drop_duplicates()) > 1:
        yield "Settings ran on several machines: times of different rows do not compare."
    if (done["method"] == "daar").any():
        yield RECONSTRUCTION
