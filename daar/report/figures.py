"""The figures of a suite, a function per kind, named as `daar.suite.figures.KINDS` with underscores.

Each writes `<dataset>-<network>-<kind>.png` and `.svg` for every pair in results.csv that has what the kind shows. None
refers to another kind's code, so that the workflow draws a figure again only if code of its own has changed. All take
and raise the same:

Args:
    results: the results.csv; plans, importances and records are next to it, in the folders of the settings.
    folder: where the figures go.
    names: of the rows.
    scored: the variants that have an importance.safetensors; two or more are correlated.
    macs_points: as `daar.report.fairness.check` takes it.

Returns:
    The files written.

Raises:
    InputError: results.csv or a file next to it is absent or damaged, or a comparison would not be fair; no figure is
        written then.
"""

# ruff: noqa: ARG001 (all kinds have one signature)

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from daar.report import drawing, fairness
from daar.report.accuracy_costs import draw_accuracy_costs
from daar.report.accuracy_latency import draw_accuracy_latency, timed
from daar.report.accuracy_macs import draw_accuracy_macs
from daar.report.accuracy_rows import draw_accuracy_rows, is_better
from daar.report.collect import finished, read_results
from daar.report.drawing import Look
from daar.report.paired_differences import compared, draw_differences
from daar.report.pruning_ratios import draw_pruning_ratios, load_ratios
from daar.report.published import points
from daar.report.rank_correlation import draw_rank_correlation, load_correlations
from daar.report.tuning_curves import draw_tuning_curves, load_curves
from daar.suite.definition import MACS_POINTS
from daar.suite.names import Names

_Pair = tuple[str, str]  # dataset, network
_Draw = Callable[[], Figure]


def accuracy_macs(
    results: Path, folder: Path, names: Names, scored: Collection[str], macs_points: float = MACS_POINTS
) -> list[Path]:
    """Accuracy versus MACs left; where a suite has few targets and many variants, a row for each variant."""
    frame, looks = _read(results, macs_points)

    def draw(pair: _Pair, rows: pd.DataFrame) -> _Draw:
        if is_better(rows):
            return partial(draw_accuracy_rows, rows, names, looks)
        return partial(draw_accuracy_macs, rows, names, looks, points(*pair))

    return _write(folder, "accuracy-macs", frame, draw)


def pruning_ratios(
    results: Path, folder: Path, names: Names, scored: Collection[str], macs_points: float = MACS_POINTS
) -> list[Path]:
    """Filters removed over depth, from the plans."""
    frame, looks = _read(results, macs_points)
    ratios = load_ratios(results, frame)

    def draw(pair: _Pair, rows: pd.DataFrame) -> _Draw | None:
        own = _of(ratios, pair)
        return None if own.empty else partial(draw_pruning_ratios, rows, own, names, looks)

    return _write(folder, "pruning-ratios", frame, draw)


def tuning_curves(
    results: Path, folder: Path, names: Names, scored: Collection[str], macs_points: float = MACS_POINTS
) -> list[Path]:
    """Accuracy on the validation images after every epoch, from the records; none where nothing was tuned."""
    frame, looks = _read(results, macs_points)
    curves = load_curves(results, frame)

    def draw(pair: _Pair, rows: pd.DataFrame) -> _Draw | None:
        own = _of(curves, pair)
        return None if own.empty else partial(draw_tuning_curves, rows, own, names, looks)

    return _write(folder, "tuning-curves", frame, draw)


def rank_correlation(
    results: Path, folder: Path, names: Names, scored: Collection[str], macs_points: float = MACS_POINTS
) -> list[Path]:
    """How alike methods rank the filters, from the importances; of two scored variants or more."""
    frame, _ = _read(results, macs_points)
    correlations = load_correlations(results, frame, scored)

    def draw(pair: _Pair, rows: pd.DataFrame) -> _Draw | None:
        return partial(draw_rank_correlation, rows, correlations[pair], names) if pair in correlations else None

    return _write(folder, "rank-correlation", frame, draw)


def accuracy_latency(
    results: Path, folder: Path, names: Names, scored: Collection[str], macs_points: float = MACS_POINTS
) -> list[Path]:
    """Accuracy versus measured latency; none where nothing was timed."""
    frame, looks = _read(results, macs_points)

    def draw(pair: _Pair, rows: pd.DataFrame) -> _Draw | None:
        return partial(draw_accuracy_latency, rows, names, looks) if timed(rows) else None

    return _write(folder, "accuracy-latency", frame, draw)


def differences(
    results: Path, folder: Path, names: Names, scored: Collection[str], macs_points: float = MACS_POINTS
) -> list[Path]:
    """How far every row is from DAAR, or from the best method; none where no two rows share a target."""
    frame, looks = _read(results, macs_points)

    def draw(_: _Pair, rows: pd.DataFrame) -> _Draw | None:
        return None if compared(rows, names).empty else partial(draw_differences, rows, names, looks)

    return _write(folder, "differences", frame, draw)


def accuracy_costs(
    results: Path, folder: Path, names: Names, scored: Collection[str], macs_points: float = MACS_POINTS
) -> list[Path]:
    """Accuracy next to parameters, MACs and the seconds of scoring and planning."""
    frame, looks = _read(results, macs_points)

    def draw(_: _Pair, rows: pd.DataFrame) -> _Draw | None:
        return partial(draw_accuracy_costs, rows, names, looks)

    return _write(folder, "accuracy-costs", frame, draw)


def _read(results: Path, macs_points: float) -> tuple[pd.DataFrame, dict[str, Look]]:
    """The rows of finished settings, fair ones, and the looks of all variants, finished or not."""
    frame = read_results(results)
    fairness.check(frame, macs_points)
    return finished(frame), drawing.looks_of(frame)


def _write(
    folder: Path, kind: str, frame: pd.DataFrame, draw: Callable[[_Pair, pd.DataFrame], _Draw | None]
) -> list[Path]:
    """Write one kind, for every pair for which `draw` gives a figure."""
    drawn = {
        (dataset, network): draw((str(dataset), str(network)), rows)
        for (dataset, network), rows in frame.groupby(["dataset", "network"])
    }
    paths = []
    for (dataset, network), figure in drawn.items():
        if figure is not None:
            paths += drawing.write(Path(folder) / f"{dataset}-{network}-{kind}", figure)
    return paths


def _of(frame: pd.DataFrame, pair: _Pair) -> pd.DataFrame:
    """The rows of one (dataset, network)."""
    return frame[(frame["dataset"] == pair[0]) & (frame["network"] == pair[1])]
