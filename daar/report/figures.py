"""The figures of a suite, one of each kind per (dataset, network)."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from daar.report import drawing, fairness
from daar.report.accuracy_macs import accuracy_macs
from daar.report.collect import read_results


def write_figures(results: Path, folder: Path, titles: Mapping[str, str]) -> list[Path]:
    """Write `<dataset>-<network>-accuracy-macs.png` and `.svg` into `folder` for every pair in results.csv.

    Args:
        results: the results.csv.
        folder: where the figures go.
        titles: variant → what a reader should see; a variant without one keeps its name.

    Returns:
        The files written.

    Raises:
        InputError: results.csv is damaged, or a comparison would not be fair; no figure is
            written then.
    """
    frame = read_results(results)
    fairness.check(frame)
    given = drawing.looks_of(frame)
    paths = []
    for (dataset, network), rows in frame.groupby(["dataset", "network"]):
        stem = Path(folder) / f"{dataset}-{network}"
        paths += drawing.write(
            stem.with_name(f"{stem.name}-accuracy-macs"), partial(accuracy_macs, rows, titles, given)
        )
    return paths
