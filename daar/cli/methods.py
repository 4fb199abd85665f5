"""A method or policy of one's own: `method check`.

Heavy modules are imported where they are needed.
"""

import multiprocessing
from argparse import Namespace
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from daar.cli import options
from daar.errors import InputError
from daar.methods import discovery


def add_commands(subparsers: Any) -> None:
    """Add the parsers of this family."""
    method = subparsers.add_parser("method", help="check a method or policy of one's own").add_subparsers(
        required=True, metavar="COMMAND"
    )
    words = "run every check that methods and policies have to pass on a folder of one's own, which is code"
    command = options.command(method, "check", check, words)
    command.add_argument("folder", type=Path, metavar="DIR", help="with method.py and rule.smk, or with policy.py")


def check(a: Namespace) -> None:
    """`daar method check`; a line for each check, and exit code 2 where one fails.

    In another process: a method that ends its own would otherwise end the checks, as if all had passed.
    """
    method = discovery.read_folder(a.folder)
    what = "policy" if method.is_policy else "method"
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        try:
            problems, skipped, number = process.submit(_outcomes, a.folder).result()
        except BrokenProcessPool as error:
            raise InputError(
                f"{what} {method.name!r} should return from every check, but ended the process in the one after those "
                "above. Take out what ends it, such as os._exit(), or mend what crashes."
            ) from error
    if problems:
        without = f" ({skipped} skipped)" if skipped else ""
        raise InputError(
            f"{what} {method.name!r} fails {problems} of {number} checks{without}; each line above says what to do. "
            f"See docs/adding-a-{what}.md."
        )
    print(f"{what} {method.name!r} passes all {number} checks")


def _outcomes(folder: Path) -> tuple[int, int, int]:
    """Run and print each check of the method or policy there: how many fail, are skipped, and are there."""
    import torch

    from daar.conformance import checks

    torch.set_num_threads(1)  # sums of many threads may differ in their last bits
    method = discovery.read_folder(folder)
    problems = skipped = 0
    for outcome in checks.outcomes(method):
        skipped += outcome.skipped
        if outcome.skipped:
            continue
        problems += outcome.problem is not None
        said = "ok" if outcome.problem is None else f"FAILS: {outcome.problem}"
        print(f"{outcome.check.name:<34} {said}", flush=True)
    if skipped:
        why = f"they need scores that pass {checks.FORM.name}. Mend that first."
        print(f"{f'{skipped} other checks':<34} skipped: {why}", flush=True)
    return problems, skipped, len(checks.of(method))
