"""A suite: `suite check`, `suite keep`, `suite write`, and what the workflow calls.

Heavy modules are imported where they are needed.
"""

import argparse
import contextlib
import functools
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daar.cli import arguments, options
from daar.cluster import costs, simulation, slurm
from daar.device import gpu
from daar.errors import InputError
from daar.models import own
from daar.run import preflight, reuse, start
from daar.run import reproduce as reproduction
from daar.storage import files, provenance
from daar.storage.bundled import SCHEMAS
from daar.suite import reading, records
from daar.suite.definition import Suite

if TYPE_CHECKING:
    from daar.run.estimate import Estimate


def add_commands(subparsers: Any) -> None:
    """Add the parsers of this family."""
    suite = subparsers.add_parser("suite", help="check a suite, keep its results, or write it out").add_subparsers(
        required=True, metavar="COMMAND"
    )
    _add_check(suite)
    _add_keep(suite)
    _add_carry(suite)
    _add_write(suite)
    _add_reuse(subparsers)
    _add_reproduce(subparsers)


def _add_check(suite: Any) -> None:
    command = options.command(suite, "check", check_suite, "validate a suite, find its data, estimate its hours here")
    # its lines are left as they are: a path that is broken into two cannot be copied
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = f"All keys that a suite can have: {SCHEMAS / 'suite.schema.yaml'}"
    options.add_suite(command)
    words = "simulate it on a cluster of machines like this one, and keep for the workflow what its jobs need"
    command.add_argument("--cluster", action="store_true", help=words)
    command.add_argument("--machines", type=int, nargs="+", default=[1, 8, 64], metavar="N", help="default: 1 8 64")
    words = "seconds that a queue entry takes in addition to its work (default: 20)"
    command.add_argument("--overhead", type=float, default=20, metavar="SECONDS", help=words)
    options.add_results(command)
    options.add_packs(command)
    options.add_run(command, seed=False)


def _add_keep(suite: Any) -> None:
    words = "copy its finished records, tables, figures and page to results/reference"
    command = options.command(suite, "keep", keep_suite, words)
    options.add_suite(command)
    options.add_results(command)
    words = "folder of kept results (default: results/reference)"
    command.add_argument("--reference", type=Path, default=reuse.REFERENCE, help=words)


def _add_carry(suite: Any) -> None:
    words = "give its kept records the hash of today's code, where that is shown to give the same results"
    command = options.command(suite, "carry", carry_suite, words)
    options.add_suite(command)
    words = "checkout of the code that the records were made by (git worktree add DIR COMMIT)"
    command.add_argument("--from", dest="earlier", required=True, type=Path, metavar="DIR", help=words)
    words = "settings to tune by both, and to train from scratch, where such code has changed (default: 0)"
    command.add_argument("--retune", type=int, default=0, metavar="N", help=words)
    options.add_results(command)
    words = "folder of kept results (default: results/reference)"
    command.add_argument("--reference", type=Path, default=reuse.REFERENCE, help=words)


def _add_write(suite: Any) -> None:
    command = options.command(suite, "write", write_suite, "write a suite given as JSON, validated")
    command.add_argument("config", metavar="JSON")
    options.add_out(command, "the file")


def _add_reuse(subparsers: Any) -> None:
    words = "take a kept record and plan in place of a run, if of the same dense network (the workflow calls it)"
    command = options.command(subparsers, "reuse", reuse_record, words)
    command.add_argument("record", type=Path, metavar="RECORD.json", help="in results/reference")
    command.add_argument("--base", required=True, type=Path, help="folder of the dense checkpoint")
    options.add_out(command, "record.json")


def _add_reproduce(subparsers: Any) -> None:
    command = options.command(
        subparsers,
        "reproduce",
        reproduce,
        "run one record's setting again and compare every number",
    )
    command.add_argument("record", type=Path, metavar="RECORD.json", help="in its results folder")
    options.add_out(command, "empty folder for the rerun (default: a temporary one)", folder=True, required=False)
    words = "run methods and networks that the suite has in folders of its own, which are code"
    command.add_argument("--trust", action="store_true", help=words)
    command.epilog = (
        "The record may be a stranger's: its suite, data and weights are read and never executed. Methods and "
        "networks in folders that are not part of daar are code, and are run only with --trust. See SECURITY.md."
    )
    command.add_argument("--keep-base", action="store_true", help="take the dense network from the record's results")
    command.add_argument("--cores", type=int, metavar="N", help="for Snakemake (default: all)")


def check_suite(a: Namespace) -> None:
    """`daar suite check`."""
    suite = reading.load(start.find_suite(a.suite))
    preflight.require_runnable(suite, a.packs, elsewhere=a.cluster)
    settings = f"{len(suite.settings)} setting{'s' if len(suite.settings) != 1 else ''}"
    print(f"suite {suite.name!r}: {settings}, {', '.join(suite.networks)} on {', '.join(suite.datasets)}")
    from daar.run import estimate

    device = arguments.device(a)
    cores = a.threads or gpu.count_cores()
    if a.cluster:
        _check_cluster(a, suite, estimate.estimate(suite, device, cores, threads=cores), device.type, cores)
        return
    kept = reuse.found(suite)
    if kept:
        print(f"{len(kept)} of its settings have a record in {reuse.REFERENCE} already, and are not run again")
    expected = estimate.estimate(suite, device, cores, kept=kept)
    print(f"it can run here, on {device.type} with --cores {cores}; by a few steps of each kind of work, timed now:")
    print(estimate.to_text(expected))
    print("`daar run` counts packing, attention pictures and each kind of figure as jobs too, and nothing that is done")


def _check_cluster(a: Namespace, suite: Suite, expected: "Estimate", device: str, threads: int) -> None:
    """Write what jobs cost, and say how long N machines like this one would take."""
    of, hardware = costs.fingerprint(suite), provenance.hardware()
    words = f"{hardware['gpu'] or hardware['cpu']}, {threads} threads a job"
    out = a.results / suite.name / costs.FILE
    costs.write(out, costs.Measured(of, device, words, threads, expected.peak_mb, tuple(expected.costs)))
    queue = simulation.entries(suite, expected.costs, slurm.components(), a.overhead)
    print(f"on machines like this one ({words}), {a.overhead:g} s for an entry to start and to be noticed:")
    print(simulation.to_text(queue, a.machines))
    print(f"{out}: what the jobs will ask a scheduler for follows from it")


def keep_suite(a: Namespace) -> None:
    """`daar suite keep`."""
    suite = reading.load(start.find_suite(a.suite))
    kept = reuse.keep(suite, a.results, a.reference)
    print(f"{kept['records']} of {kept['settings']} records are in {a.reference / suite.name}")


def carry_suite(a: Namespace) -> None:
    """`daar suite carry`; exits with 1 where a record stays as it is."""
    from daar.run.carry import FILE, carry
    from daar.run.checkout import Checkout

    file, earlier = start.find_suite(a.suite), Checkout(a.earlier)
    suite = reading.load(file)
    own.export(suite.networks_dirs)
    say = functools.partial(print, flush=True)
    outcome = carry(suite, file, earlier, results=a.results, reference=a.reference, sample=a.retune, say=say)
    stay = len(outcome.refused)
    print(f"{outcome.carried} records carried over, {outcome.current} were current, {stay} stay as they are")
    if outcome.carried:
        print(f"what was compared: {a.reference / suite.name / FILE}")
    if outcome.refused:
        sys.exit(1)


def reuse_record(a: Namespace) -> None:
    """`daar reuse`."""
    reuse.take(a.record, a.base, a.out)
    print(f"taken from {a.record}, which was made of the same")


def write_suite(a: Namespace) -> None:
    """`daar suite write`: the workflow keeps with the results what was run."""
    content = arguments.from_text(a.config, "the suite")
    reading.from_config(content, "config")
    files.write_json(a.out, content)


@contextlib.contextmanager
def _folder_or_temporary(given: Path | None) -> Iterator[Path]:
    """A folder, or a temporary one, which stays unless it is empty in the end."""
    if given is not None:
        yield given
        return
    made = Path(tempfile.mkdtemp(prefix="daar-reproduce-"))
    try:
        yield made
    finally:
        with contextlib.suppress(OSError):  # it holds something
            made.rmdir()


def reproduce(a: Namespace) -> None:
    """`daar reproduce`; exits with 1 where a number differs."""
    cores = gpu.count_cores() if a.cores is None else a.cores
    if cores < 1:
        raise InputError(f"--cores should be 1 or more, got {cores}.")
    with _folder_or_temporary(a.out) as out:
        compared = reproduction.reproduce(a.record, out, keep_base=a.keep_base, trust=a.trust, cores=cores)
    for line in reproduction.around(records.read(a.record), provenance.environment()):
        print(f"around   {line}")
    for number in compared:
        print(number)
    same = sum(number.same for number in compared)
    print(f"{same} of {len(compared)} numbers are the same. The rerun is in {out}.")
    if same < len(compared):
        sys.exit(1)
