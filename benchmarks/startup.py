"""Startup times: imports, a light command, and Snakemake's dry run of the paper suite."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import Benchmark, Goal, Options, Side, Sides, under
from daar.errors import InputError
from daar.storage.bundled import ROOT

# starting takes milliseconds, so a window times several starts
REPEATS = 10

_TORCH = "torch is imported"


def benchmarks() -> list[Benchmark]:
    """`import daar`, a light command, and the dry run of the paper suite."""
    no_torch = Goal("without torch", lambda result: not result.facts[_TORCH])
    return [
        Benchmark("import", "`import daar`", _import, no_torch, difference=True),
        Benchmark("command", "`daar list methods`", _command, no_torch, difference=True),
        Benchmark("dry-run", "`snakemake -n` of the paper suite", _dry_run, under(15), most=5),
    ]


@contextmanager
def _import(_: Options) -> Iterator[Sides]:
    with _against_barerun_python("import daar", "python -c 'import daar'") as sides:
        yield sides


@contextmanager
def _command(_: Options) -> Iterator[Sides]:
    code = "from daar.cli.main import main; main(['list', 'methods'])"
    with _against_barerun_python(code, "daar list methods") as sides:
        yield sides


@contextmanager
def _against_barerun_python(code: str, what: str) -> Iterator[Sides]:
    modules = run_python("-c", f"{code}\nimport sys\nprint('torch' in sys.modules)").splitlines()[-1]
    yield Sides(
        Side(what, lambda: _repeat("-c", code), times=REPEATS),
        Side("python -c pass", lambda: _repeat("-c", "pass"), times=REPEATS),
        {_TORCH: modules == "True"},
    )


@contextmanager
def _dry_run(_: Options) -> Iterator[Sides]:
    """The dry run in an empty directory, where no job is done yet."""
    suite = ROOT / "workflow" / "config" / "paper.yaml"
    with tempfile.TemporaryDirectory() as empty:
        where = ["--snakefile", str(ROOT / "Snakefile"), "--directory", empty, "--configfile", str(suite)]

        def dry_run() -> None:
            run_python("-m", "snakemake", "-n", "--quiet", "all", *where)

        yield Sides(Side("snakemake -n in an empty directory", dry_run))


def _repeat(*arguments: str) -> None:
    for _ in range(REPEATS):
        run_python(*arguments)


def run_python(*arguments: str, cwd: Path = ROOT) -> str:
    """Run this interpreter with this checkout's daar; returns its output.

    Args:
        arguments: of Python.
        cwd: the folder to run it in.

    Raises:
        InputError: it fails.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, check=False, capture_output=True, text=True,
        encoding="utf-8",
    )  # fmt: skip
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"`python {' '.join(arguments)}` exits with {done.returncode}: {reason}. Run it by itself.")
    return done.stdout
