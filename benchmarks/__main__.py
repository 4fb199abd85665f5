"""The command line: `python -m benchmarks`, in a checkout."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from daar.cli import arguments, options
from daar.cli.main import execute


def main(given: Sequence[str] | None = None) -> None:
    """Run benchmarks; exits as the command `daar` does."""
    execute(_parser().parse_args(given))


def _parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Time daar and reference loops in alternation."
    )
    command.set_defaults(run=_run, by_torchrun=False)
    command.add_argument("--out", type=Path, default=Path("results/bench"), help="folder (default: results/bench)")
    command.add_argument("--only", nargs="+", metavar="NAME", help="these benchmarks (default: all)")
    command.add_argument("--windows", type=int, default=7, help="timed windows of each side, alternating (default: 7)")
    command.add_argument("--steps", type=int, default=15, help="training steps in a window (default: 15)")
    words = "longest wait in all until other programs are idle; disturbed rounds are repeated (Linux; default: 0)"
    command.add_argument("--patience", type=float, default=0, metavar="MINUTES", help=words)
    options.add_run(command, seed=False, shares=False)
    options.add_json(command)
    return command


def _run(a: argparse.Namespace) -> None:
    device = arguments.device(a)
    # both import torch
    from benchmarks import run
    from benchmarks.harness import Options

    print(run(a.out, a.windows, a.only, Options(device, a.steps), patience=60 * a.patience, as_json=a.json))


if __name__ == "__main__":
    main()
