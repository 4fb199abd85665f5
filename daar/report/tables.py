"""The tables, per (dataset, network), from results.csv and the suite's words alone.

`<pair>`: accuracies and sizes. `<pair>-differences.csv`: the paired differences in full. `<pair>-costs`: seconds,
epochs and memory. `<pair>-ablation-<method>`: what a method's options do, where the suite has several variants of it.
"""

from pathlib import Path

from daar.report import ablations, accuracies, costs, fairness
from daar.report.accuracies import table
from daar.report.collect import read_results
from daar.report.context import Context
from daar.report.differences import differences
from daar.report.sheet_files import write
from daar.storage.files import write_text


def write_tables(results: Path, folder: Path, context: Context) -> list[Path]:
    """Write the tables of every (dataset, network) in results.csv.

    Args:
        results: the results.csv.
        folder: where the tables go.
        context: what the suite says of the rows.

    Returns:
        The files written.

    Raises:
        InputError: results.csv is damaged, or a comparison would not be fair; no table is
            written then.
    """
    frame = read_results(results)
    fairness.check(frame, context.macs_points)
    paths = []
    for (dataset, network), rows in frame.groupby(["dataset", "network"]):
        pair = f"{dataset}-{network}"
        compared = differences(rows, context.names)
        paths += write(folder / pair, accuracies.sheet(rows, context, compared), table(rows, context.names))
        paths.append(folder / f"{pair}-differences.csv")
        write_text(paths[-1], compared.to_csv(index=False, lineterminator="\n"))
        paths += write(folder / f"{pair}-costs", *costs.costs(rows, context))
        for method in ablations.ablated(rows):
            paths += write(folder / f"{pair}-ablation-{method}", *ablations.ablation(rows, method, context))
    return paths
