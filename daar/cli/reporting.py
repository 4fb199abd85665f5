"""Tables, figures and page: `report`.

Heavy modules are imported where they are needed.
"""

from argparse import Namespace
from itertools import product
from pathlib import Path
from typing import Any

from daar.cli import options
from daar.errors import InputError
from daar.suite import figures, reading


def add_commands(subparsers: Any) -> None:
    """Add the parsers of this family."""
    summary = "collect a suite's records into tables, figures and a page"
    command = options.command(subparsers, "report", report, summary)
    command.add_argument("suite", type=Path, metavar="SUITE.yaml")
    options.add_results(command)
    parts = ["collect", "tables", "figures", "attention", "ledger", "published", "stability", "page"]
    command.add_argument("--only", choices=parts, help="one part; default: all")
    command.add_argument(
        "--partial", action="store_true", help="settings without a record stand as missing, with the reason"
    )
    command.add_argument("--where", action="store_true", help="only say where they lie")


def report(a: Namespace) -> None:
    """`daar report`."""
    found = reading.load(a.suite)
    folder = a.results / found.name
    if a.where:
        print(where(folder))
        return
    from daar.report import collect, context, failures
    from daar.report.attention import write_attention
    from daar.report.figures import write_figures
    from daar.report.ledger import write_ledger
    from daar.report.page import write_page
    from daar.report.published import write_published
    from daar.report.stability import write_stability
    from daar.report.tables import write_tables

    results, titles = folder / "results.csv", found.titles()
    if a.only in (None, "collect"):
        records, failed = failures.split(found, a.results)
        if not a.partial:
            records, failed = [folder / setting.path / "record.json" for setting in found.settings], []
        collect.write_results(records, results, latency=found.latency, failures=failed)
    elif a.partial:
        raise InputError(f"--partial says what to collect, but --only is {a.only}. Leave one of them out.")
    if a.only in (None, "tables"):
        write_tables(results, folder / "tables", context.of_suite(found))
    if a.only in (None, "figures"):
        write_figures(results, folder / "figures", titles, figures.scored(found))
    if a.only in (None, "ledger"):
        write_ledger(results, folder / "tables", titles, found.deviations())
    if a.only in (None, "published"):
        write_published(folder / "tables", product(found.datasets, found.networks))
    if a.only in (None, "stability") and found.stability:
        pairs = [(dataset, network) for dataset in found.datasets for network in found.networks]
        controls = figures.controls(found)
        write_stability(folder, pairs, found.stability.variants, titles, controls)
    if a.only in (None, "attention") and (explained := figures.explained(found)):
        pictures = {pair: folder / setting.path / "attention.safetensors" for pair, setting in explained.items()}
        pictures = {pair: path for pair, path in pictures.items() if path.exists() or not a.partial}
        name = next(iter(explained.values())).variant.name
        write_attention(pictures, folder / "figures", titles[name])
    if a.only in (None, "page"):
        write_page(found, folder, a.suite)
    if a.only is None:
        print(where(folder))


def where(folder: Path) -> str:
    """Where report, tables, figures and records of a suite lie, a line each; InputError if some are not there yet."""
    rows = {
        "report": "report.html",
        "tables": "tables/*-*.md",
        "figures": "figures/*.png",
        "all numbers": "results.csv",
        "records": "**/record.json",
    }
    # a pair's main table has the shortest name
    found = {what: sorted(folder.glob(pattern), key=lambda p: (len(str(p)), p)) for what, pattern in rows.items()}
    if missing := [what for what, paths in found.items() if not paths]:
        raise InputError(f"{folder} has no {missing[0]} yet. Run: daar run SUITE.yaml")
    shown = {w: str(p[0]) if len(p) == 1 else f"{p[0]} and {len(p) - 1} more" for w, p in found.items()}
    return "\n".join(f"{what + ':':<13}{where}" for what, where in shown.items())
