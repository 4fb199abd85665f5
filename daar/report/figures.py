"""The figures of a suite, one of each kind per (dataset, network)."""

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

import pandas as pd

from daar.report import accuracy_latency, drawing, fairness, pruning_ratios, rank_correlation, tuning_curves
from daar.report.accuracy_macs import accuracy_macs
from daar.report.accuracy_rows import accuracy_rows, is_better
from daar.report.collect import finished, read_results
from daar.report.published import points


def write_figures(results: Path, folder: Path, titles: Mapping[str, str], scored: Collection[str] = ()) -> list[Path]:
    """Write `<dataset>-<network>-<kind>.png` and `.svg` into `folder` for every pair in results.csv.

    The kinds are those of `daar.suite.figures.kinds`.

    Args:
        results: the results.csv; plans, importances and records lie beside it, in the folders of the settings.
        folder: where the figures go.
        titles: variant → what a reader should see; a variant without one keeps its name.
        scored: the variants that have an importance.safetensors; two or more are correlated.

    Returns:
        The files written.

    Raises:
        InputError: results.csv or a file beside it is absent or damaged, or a comparison would not be fair; no figure
            is written then.
    """
    frame = read_results(results)
    fairness.check(frame)
    given = drawing.looks_of(frame)
    frame = finished(frame)
    ratios = pruning_ratios.load(results, frame)
    curves = tuning_curves.load(results, frame)
    correlations = rank_correlation.load(results, frame, scored)
    paths = []
    for (dataset, network), rows in frame.groupby(["dataset", "network"]):
        pair = (str(dataset), str(network))
        figures = {
            "accuracy-macs": partial(accuracy_rows, rows, titles, given)
            if is_better(rows)
            else partial(accuracy_macs, rows, titles, given, points(*pair))
        }
        if not (own := _of(ratios, pair)).empty:
            figures["pruning-ratios"] = partial(pruning_ratios.pruning_ratios, rows, own, titles, given)
        if not (own := _of(curves, pair)).empty:
            figures["tuning-curves"] = partial(tuning_curves.tuning_curves, rows, own, titles, given)
        if pair in correlations:
            figures["rank-correlation"] = partial(rank_correlation.rank_correlation, rows, correlations[pair], titles)
        if accuracy_latency.timed(rows):
            figures["accuracy-latency"] = partial(accuracy_latency.accuracy_latency, rows, titles, given)
        for kind, draw in figures.items():
            paths += drawing.write(Path(folder) / f"{dataset}-{network}-{kind}", draw)
    return paths


def _of(frame: pd.DataFrame, pair: tuple[str, str]) -> pd.DataFrame:
    """The rows of one (dataset, network)."""
    return frame[(frame["dataset"] == pair[0]) & (frame["network"] == pair[1])]
