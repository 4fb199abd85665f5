"""Tables, figures and page: `report`.

Heavy modules are imported where they are needed.
"""

import gc
from argparse import Namespace
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from daar.cli import options
from daar.errors import InputError
from daar.run import start
from daar.storage.bundled import ROOT
from daar.suite import figures, names, paths, reading
from daar.suite.definition import Suite


class _Request(NamedTuple):
    """What a part is made from.

    Attributes:
        suite: the suite.
        source: its file.
        results: folder of all results.
        partial: whether settings may lack a record.
    """

    suite: Suite
    source: Path
    results: Path
    partial: bool

    @property
    def folder(self) -> Path:
        """Of the suite's results."""
        return self.results / self.suite.name

    @property
    def csv(self) -> Path:
        """The results.csv."""
        return self.folder / "results.csv"


def add_commands(subparsers: Any) -> None:
    """Add the parsers of this family."""
    summary = "collect a suite's records into tables, figures and a page"
    command = options.command(subparsers, "report", report, summary)
    options.add_suite(command)
    options.add_results(command)
    words = "one part, or one kind of figure; default: all"
    command.add_argument("--only", choices=[*_PARTS, *figures.KINDS], help=words)
    command.add_argument(
        "--partial", action="store_true", help="list settings without a record as missing, with the reason"
    )
    words = "also compare rows of the same name and target with those of this suite, which has results"
    command.add_argument("--with", dest="other", metavar="SUITE", help=words)
    command.add_argument("--where", action="store_true", help="only print where they are")


def report(a: Namespace) -> None:
    """`daar report`."""
    # of a thousand records all is kept: to look for garbage takes a tenth of the time
    gc.set_threshold(50_000, 20, 100)
    file = start.find_suite(a.suite)
    suite = reading.load(file)
    request = _Request(suite, file, a.results, a.partial)
    if not a.where:
        if a.other is not None and a.only not in (None, "page"):
            raise InputError(f"--with adds a table to the page, but --only is {a.only}. Give only one of them.")
        other = None if a.other is None else _other(a.other, request)
        _make(request, a.only, other)
    if a.where or a.only is None:
        print(where(suite, request.folder))


def _other(name: str, request: _Request) -> _Request:
    """The suite to compare with: its results are next to those of the suite, or kept."""
    file = start.find_suite(name)
    suite = reading.load(file)
    if suite.name == request.suite.name:
        raise InputError(f"--with should name another suite than {suite.name!r}, but names the same. Give another.")
    places = (request.results, Path(paths.REFERENCE), ROOT / paths.REFERENCE)
    found = next((place for place in places if (place / suite.name / "results.csv").is_file()), None)
    if found is None:
        raise InputError(
            f"--with: no results of suite {suite.name!r} in {' or '.join(map(str, places[:2]))}. Run: daar run {name}"
        )
    return _Request(suite, file, found, partial=False)


def _make(request: _Request, only: str | None, other: _Request | None = None) -> None:
    """Make one part, or all in order."""
    if request.partial and only not in (None, "collect"):
        raise InputError(f"--partial says what to collect, but --only is {only}. Give only one of them.")
    if only in figures.KINDS:
        _draw(request, only)
        return
    for name, make in _PARTS.items():
        if name == "page" and other is not None:
            _versus(request, other)
        if only in (None, name):
            make(request)


def _collect(request: _Request) -> None:
    from daar.report import collect, failures

    suite = request.suite
    if request.partial:
        records, failed = failures.split(suite, request.results)
    else:
        records, failed = [request.folder / setting.path / "record.json" for setting in suite.settings], []
    collect.write_results(records, request.csv, latency=suite.latency, failures=failed)


def _tables(request: _Request) -> None:
    from daar.report import context
    from daar.report.tables import write_tables

    write_tables(request.csv, request.folder / "tables", context.of_suite(request.suite))


def _figures(request: _Request) -> None:
    for kind in figures.kinds(request.suite):
        _draw(request, kind)


def _draw(request: _Request, kind: str) -> None:
    from daar.report import figures as drawn

    suite = request.suite
    if kind not in (there := figures.kinds(suite)):
        raise InputError(
            f"suite {suite.name!r} has the figures {', '.join(there)}, but --only is {kind}. Name another."
        )
    draw = getattr(drawn, kind.replace("-", "_"))  # as the module says
    draw(request.csv, request.folder / "figures", names.of_suite(suite), figures.scored(suite), suite.macs_points)


def _ledger(request: _Request) -> None:
    from daar.report.ledger import write_ledger

    suite = request.suite
    write_ledger(request.csv, request.folder / "tables", names.of_suite(suite), suite.deviations(), suite.macs_points)


def _published(request: _Request) -> None:
    from daar.report.published import write_published

    write_published(request.folder / "tables", product(request.suite.datasets, request.suite.networks))


def _stability(request: _Request) -> None:
    suite = request.suite
    if not suite.stability:
        return
    from daar.report.stability import write_stability

    pairs = list(product(suite.datasets, suite.networks))
    rows = names.of_suite(suite)
    write_stability(request.folder, pairs, suite.stability.variants, rows, figures.controls(suite))


def _attention(request: _Request) -> None:
    explained = figures.explained(request.suite)
    if not explained:
        return
    from daar.report.attention import write_attention

    files = {pair: request.folder / setting.path / "attention.safetensors" for pair, setting in explained.items()}
    if request.partial:
        files = {pair: path for pair, path in files.items() if path.exists()}
    variant = next(iter(explained.values())).variant.name
    write_attention(files, request.folder / "figures", names.of_suite(request.suite).variant(variant))


def _versus(request: _Request, other: _Request) -> None:
    from daar.report.versus import Side, write_versus

    ours, theirs = (Side(one.suite.name, one.csv, names.of_suite(one.suite)) for one in (request, other))
    write_versus(ours, theirs, request.folder / "tables")


def _page(request: _Request) -> None:
    from daar.report.page import write_page

    write_page(request.suite, request.folder, request.source)


# in the order of making: the page shows the others
_PARTS: dict[str, Callable[[_Request], None]] = {
    "collect": _collect,
    "tables": _tables,
    "figures": _figures,
    "ledger": _ledger,
    "published": _published,
    "stability": _stability,
    "attention": _attention,
    "page": _page,
}


def where(suite: Suite, folder: Path) -> str:
    """Where report, tables, figures and records of a suite are, a line each; InputError if some are not there yet.

    Args:
        suite: the suite; records of other settings, of an earlier version of it, do not count.
        folder: of its results.
    """
    patterns = {
        "report": "report.html",
        "tables": "tables/*-*.md",
        "figures": "figures/*.png",
        "all numbers": "results.csv",
    }
    found = {what: list(folder.glob(pattern)) for what, pattern in patterns.items()}
    records = (folder / setting.path / "record.json" for setting in suite.settings)
    found["records"] = [path for path in records if path.exists()]
    # a pair's main table has the shortest name
    files = {what: sorted(paths, key=lambda p: (len(str(p)), p)) for what, paths in found.items()}
    if missing := [what for what, paths in files.items() if not paths]:
        raise InputError(f"{folder} has no {missing[0]} yet. Run: daar run SUITE.yaml")
    shown = {w: str(p[0]) if len(p) == 1 else f"{p[0]} and {len(p) - 1} more" for w, p in files.items()}
    return "\n".join(f"{what + ':':<13}{where}" for what, where in shown.items())
