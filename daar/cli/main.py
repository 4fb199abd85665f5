"""The command line: every stage is a subcommand that reads files and writes files.

Bad input exits with code 2 and one line that says what to do.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from daar import __version__
from daar.cli import (
    analysis,
    data,
    deployment,
    measuring,
    methods,
    pruning,
    reporting,
    running,
    suites,
    training,
    views,
)
from daar.cli.arguments import silence
from daar.device import distributed
from daar.errors import InputError, first_line, in_one_line, is_out_of_memory
from daar.measure import usage
from daar.models import own
from daar.run import locks
from daar.storage import files
from daar.training.interrupts import Interrupted

# characters of a message, which may quote a file
_LONGEST = 2_000
# in the order in which the help lists them
_FAMILIES = (running, views, methods, data, training, pruning, measuring, deployment, suites, reporting, analysis)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exits with 0, 2 for bad input, 130 or 143 after a signal."""
    own, snakemake = running.split(sys.argv[1:] if arguments is None else arguments)
    parsed = _parser().parse_args(own)
    if snakemake:
        parsed.snakemake = snakemake
    execute(parsed)


def execute(parsed: argparse.Namespace) -> None:
    """Run the command of a parsed command line; errors and signals are reported in one line.

    Args:
        parsed: with `run`, which is called with it, and `by_torchrun`, whether several processes can run the command.
    """
    try:
        _require_alone(parsed)
        if hasattr(parsed, "out_is_folder") and parsed.out is not None:
            files.require_place(parsed.out, folder=parsed.out_is_folder)
        if hasattr(parsed, "networks_dir"):
            own.use(parsed.networks_dir)
        locks.follow()
        parsed.run(parsed)
        if getattr(parsed, "benchmark", None):
            usage.write(parsed.benchmark)
        distributed.leave()
    except InputError as error:
        sys.exit(_complain(str(error)))
    except Interrupted as interrupt:
        if distributed.is_first():
            _tell(f"daar: {interrupt}.")
        sys.exit(interrupt.exit_code)
    except KeyboardInterrupt:
        _tell("daar: interrupted at once; the same command goes on from what was saved last.")
        sys.exit(130)
    except BrokenPipeError:  # the reader has closed our output, as in `daar list methods | head -1`
        silence(sys.stdout)
    except OSError as error:  # a folder that may not be read, a name that is too long
        where = "" if error.filename is None else f"{error.filename}: "
        sys.exit(_complain(f"{where}{error.strerror or error}. Choose another path, or change its permissions."))
    except (MemoryError, RuntimeError, ImportError) as error:
        if str(error).startswith("DataLoader worker"):
            from daar.data import decoding

            sys.exit(_complain(str(decoding.death())))
        if not is_out_of_memory(error):
            raise
        sys.exit(_complain(f"out of memory: {first_line(error)}. {_what_to_lower(parsed)}"))


def _require_alone(parsed: argparse.Namespace) -> None:
    """InputError if torchrun has started a command that cannot run in several processes."""
    if distributed.is_launched() and not parsed.by_torchrun:
        raise InputError("torchrun starts train, finetune, scratch and measure; start any other command without it.")


def _complain(message: str) -> int:
    _tell(f"daar: error: {in_one_line(' '.join(message.split()), _LONGEST)}")
    return 2


def _tell(line: str) -> None:
    try:
        print(f"{line}\n", end="", file=sys.stderr, flush=True)  # in one write, since other processes write lines too
    except BrokenPipeError:  # the exit code still tells
        silence(sys.stderr)


def _what_to_lower(parsed: argparse.Namespace) -> str:
    options = {"batch_size": "batch_size in the recipe", "batch_sizes": "--batch-sizes", "images": "--images"}
    sizes = [words for name, words in options.items() if hasattr(parsed, name)]
    lower = f"Lower {sizes[0]}, or close" if sizes else "Close"
    return f"{lower} other programs that use this memory; on a GPU that jobs share, lower slots per GPU."


class _Parser(argparse.ArgumentParser):
    """Argparse's, and of its subcommands, with errors that a terminal does not obey."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, and exit with code 2."""
        super().error(in_one_line(message, _LONGEST))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="daar", description="A reproducible benchmark suite for CNN filter pruning.")
    parser.add_argument("--version", action="version", version=f"daar {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for family in _FAMILIES:
        family.add_commands(subparsers)
    return parser
