"""The figure of tuning curves: accuracy on the validation images after every epoch of tuning, with the lr."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from daar.errors import InputError
from daar.report import drawing, small_multiples
from daar.report.drawing import Look, Series
from daar.report.names import pair_title
from daar.report.setting_files import read_each
from daar.report.small_multiples import Key
from daar.storage.documents import read_json
from daar.suite.names import Names

_LR_INCHES = 0.45
_FEW = 20  # epochs that are marked one by one
_COLUMNS = ("epoch", "lr", "loss", "val_top1")


def load_curves(results: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Read the tuning curves in the records next to a results.csv.

    Args:
        results: the results.csv.
        frame: its rows. Networks from scratch are trained by another recipe and are left out.

    Returns:
        A row per setting and epoch: dataset, network, seed, variant, policy, target (NaN for ratios of its own),
        `epoch` from 1, `lr`, `loss` (nats, of training) and `val_top1` (percent). No row where nothing was tuned.

    Raises:
        InputError: a record is absent or damaged.
    """
    return read_each(results, frame, "record.json", _read, _COLUMNS)


def _read(path: Path) -> list[Mapping[str, Any]]:
    # validated when it was collected; to do so again would take long for many
    content = read_json(path, "a record of one setting")
    try:
        return [{name: _number(epoch[name]) for name in _COLUMNS} for epoch in content["curve"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} should be a record with a curve of {', '.join(_COLUMNS)}; it is not ({error!r}). "
            "Delete the file and run the suite again."
        ) from error


def _number(value: object) -> float:
    """A null is a blank: what was not measured."""
    return float("nan") if value is None else float(value)  # type: ignore[arg-type]


def draw_tuning_curves(rows: pd.DataFrame, curves: pd.DataFrame, names: Names, given: Mapping[str, Look]) -> Figure:
    """Top-1 on val after every epoch, mean over seeds and the band from least to most, by target; the lr below.

    Where the dense network was trained on the validation images, or they were not measured, it shows the training loss.

    Args:
        rows: rows of results.csv of one (dataset, network).
        curves: of that pair, as `load_curves` gives them.
        names: of the rows.
        given: variant → its look.
    """
    seen = bool(rows["saw_val"].any() or curves["val_top1"].isna().any())
    column = "loss" if seen else "val_top1"
    values = by_series(curves, drawing.series_of(rows, names, given), column)
    figure = Figure(dpi=drawing.PNG_DPI, layout="constrained")

    def line(panel: Axes, target: float | None, one: Series, look: Look) -> None:
        name = "own" if target is None else f"{target:g}"
        drawing.mark(panel, "panel", column, name)
        drawn = _draw(panel, values[target, one], one, look)
        if look is not small_multiples.FAINT:
            drawing.mark(drawn, "mean", column, name, one.variant, one.policy)

    pair = pair_title(rows["network"].iloc[0], rows["dataset"].iloc[0])
    grid = small_multiples.draw(figure, pair, values, line, _LR_INCHES)
    if grid.below is not None:
        _draw_lr(grid.below, curves)
    what = "Training loss (nats)" if seen else "Top-1 on val (%)"
    for panel in grid.axes[:: grid.columns]:
        panel.set_ylabel(what)
    if seen:
        for panel in grid.axes:
            panel.set_ylim(bottom=0)
    if grid.columns == 1:
        figure.align_ylabels()
    cut = "" if seen else drawing.cut_note(grid.axes)
    lines = grid.lines + drawing.footnote(figure, [*_notes(rows, seen), cut], rows["method"])
    drawing.set_height(figure, grid.inches + 0.4, lines)
    return figure


def by_series(curves: pd.DataFrame, series: list[Series], column: str) -> dict[Key, Any]:
    """A column of the curves, (target, series) → (seeds, epochs); ragged ends, where a recipe differed, are NaN."""
    values: dict[Key, Any] = {}
    for one in series:
        own = curves[(curves["variant"] == one.variant) & (curves["policy"] == one.policy)]
        for target, group in own.groupby("target", dropna=False):
            key = (None if pd.isna(target) else float(str(target)), one)
            values[key] = group.pivot_table(index="seed", columns="epoch", values=column).to_numpy()
    return values


def _draw(panel: Axes, values: Any, one: Series, look: Look) -> Any:
    epochs = np.arange(1, values.shape[1] + 1)
    # some of many epochs are marked, to distinguish the lines in grey print
    marked = 1 if len(epochs) <= _FEW else 0.15
    return small_multiples.draw_band(panel, epochs, values, one, look, markersize=3.4, markevery=marked)


def _draw_lr(panel: Axes, curves: pd.DataFrame) -> None:
    """The lr after each epoch; every tuning of a pair has the same, but for parts of a schedule: the most usual."""
    lr = curves.groupby("epoch")["lr"].agg(lambda values: values.mode().iloc[0])
    drawing.mark(panel, "panel", "lr")
    (line,) = panel.plot(
        lr.index, lr, color="black", linewidth=0.8, marker="." if len(lr) <= _FEW else "", markersize=3
    )
    drawing.mark(line, "mean", "lr")
    panel.set_ylim(bottom=0)
    panel.yaxis.set_major_locator(MaxNLocator(4))
    panel.set_ylabel("lr")
    panel.set_xlabel("Epoch of tuning")
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # no powers: our style prints no formulas
    if len(lr) <= _FEW:
        panel.set_xticks(range(1, len(lr) + 1))


def _notes(rows: pd.DataFrame, seen: bool) -> list[str]:
    notes = [small_multiples.band_note(rows)]
    if seen:
        notes.append("Val was seen by the dense network or not measured, so the loss of training is shown.")
    if (rows["method"] == "scratch_of").any():
        notes.append("Networks from scratch are trained by another recipe and not shown.")
    return notes
