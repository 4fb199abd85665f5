"""Start: `run` a suite, `init` a folder of one's own.

Heavy modules are imported where they are needed.
"""

import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daar.cli import options
from daar.cli.reporting import where
from daar.device import gpu
from daar.errors import InputError
from daar.run import init as new_folder
from daar.run import start
from daar.suite import paths, reading


def add_commands(subparsers: Any) -> None:
    """Add the parsers of this family."""
    command = options.command(subparsers, "run", run, "run a suite from this folder, by Snakemake")
    options.add_suite(command)
    command.add_argument("--cores", type=int, metavar="N", help="for Snakemake (default: all)")
    command.add_argument("-n", "--dry-run", action="store_true", help="only show the jobs")
    command.add_argument("-q", "--quiet", action="store_true", help="say only what failed")
    command.usage = "daar run [-h] [--cores N] [-n] [-q] SUITE [-- OPTIONS]"
    command.epilog = "What follows -- goes to Snakemake: daar run demo -- --until score_l1 --keep-going"
    command.set_defaults(snakemake=[])

    command = options.command(subparsers, "init", init, "write a folder to start from: suite, method, policy")
    command.add_argument("folder", type=Path, metavar="DIR", help="new or empty")


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments of `daar run`, and those behind `--`, which are Snakemake's; of other commands all are their own.

    argparse itself leaves what follows `--` to a positional argument only where no option stands before it.
    """
    if arguments[:1] != ["run"] or "--" not in arguments:
        return list(arguments), []
    at = arguments.index("--")
    return list(arguments[:at]), list(arguments[at + 1 :])


def run(a: Namespace) -> None:
    """`daar run`; exits with Snakemake's code."""
    cores = gpu.count_cores() if a.cores is None else a.cores
    if cores < 1:
        raise InputError(f"--cores should be 1 or more, got {cores}.")
    file = start.find_suite(a.suite)
    found = reading.load(file)
    dry = ["--dry-run"] if a.dry_run else []
    code = start.run(start.command(file, cores, [*dry, *a.snakemake], quiet=a.quiet))
    results = Path(paths.RESULTS) / found.name
    if code == 0 and not a.dry_run and not a.quiet and (results / "report.html").exists():
        print(where(found, results))
    sys.exit(code)


def init(a: Namespace) -> None:
    """`daar init`."""
    for path in new_folder.write(a.folder):
        print(a.folder / path)
    there = f"cd {shlex.quote(str(a.folder))} && " if a.folder.resolve() != Path.cwd() else ""
    print(f"Next: {there}daar run suite.yaml")
