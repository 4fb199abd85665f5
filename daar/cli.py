"""The command line: every stage is a subcommand that reads files and writes files.

Bad input exits with code 2 and one line that says what to do. What a command does is in daar/commands.py.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from daar import (
    __version__,
    commands,
    control_commands,
    deployment_commands,
    explain_commands,
    reproduction_commands,
    stability_commands,
)
from daar import cli_options as options
from daar.arguments import silence
from daar.errors import InputError, first_line, is_out_of_memory
from daar.reuse import REFERENCE
from daar.training import distributed
from daar.training.budget import BUDGETS
from daar.training.interrupts import Interrupted


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exits with 0, 2 for bad input, 130 or 143 after a signal."""
    parsed = _parser().parse_args(arguments)
    try:
        _require_alone(parsed)
        parsed.run(parsed)
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
    except BrokenPipeError:  # the reader of our output has gone, as in `daar list methods | head -1`
        silence(sys.stdout)
    except (MemoryError, RuntimeError) as error:
        if str(error).startswith("DataLoader worker"):
            from daar.data import decoding

            sys.exit(_complain(str(decoding.death())))
        if not is_out_of_memory(error):
            raise
        sys.exit(_complain(f"out of memory: {first_line(error)}. {_what_to_lower(parsed)}"))


def _require_alone(parsed: argparse.Namespace) -> None:
    """Commands that several processes cannot share are started once."""
    shared = (commands.train, commands.finetune, control_commands.scratch, commands.measure)
    if distributed.is_launched() and parsed.run not in shared:
        raise InputError("torchrun starts train, finetune, scratch and measure; start any other command without it.")


def _complain(message: str) -> int:
    _tell(f"daar: error: {' '.join(message.split())}")
    return 2


def _tell(line: str) -> None:
    try:
        print(f"{line}\n", end="", file=sys.stderr, flush=True)  # in one piece, beside other processes' lines
    except BrokenPipeError:  # the exit code still tells
        silence(sys.stderr)


def _what_to_lower(parsed: argparse.Namespace) -> str:
    options = {"batch_size": "batch_size in the recipe", "batch_sizes": "--batch-sizes", "images": "--images"}
    found = [words for name, words in options.items() if hasattr(parsed, name)]
    lower = f"Lower {found[0]}, or close" if found else "Close"
    return f"{lower} other programs that use this memory; on a GPU that jobs share, lower slots per GPU."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="daar", description="A reproducible benchmark suite for CNN filter pruning.")
    parser.add_argument("--version", action="version", version=f"daar {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_views(subparsers)
    _add_data(subparsers)
    _add_training(subparsers)
    _add_pruning(subparsers)
    _add_controls(subparsers)
    _add_stability(subparsers)
    _add_explain(subparsers)
    _add_measuring(subparsers)
    _add_deployment(subparsers)
    _add_suites(subparsers)
    return parser


def _command(subparsers: Any, name: str, run: Callable[[argparse.Namespace], None], summary: str) -> Any:
    command = subparsers.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    command.set_defaults(run=run)
    return command


# one function per family of commands


def _add_views(subparsers: Any) -> None:
    command = _command(subparsers, "list", commands.list_names, "list what there is")
    command.add_argument("what", choices=["methods", "networks", "datasets", "policies", "recipes"])
    options.add_json(command)
    options.add_methods_dir(command)

    command = _command(subparsers, "describe", commands.describe, "show a network's size and its channel groups")
    command.add_argument("network", metavar="NETWORK")
    words = "gives the number of classes (default: cifar10, for networks of 224x224 images imagenet)"
    command.add_argument("--dataset", help=words)
    options.add_json(command)


def _add_data(subparsers: Any) -> None:
    data = subparsers.add_parser("data", help="pack a dataset, or check a packed one").add_subparsers(required=True)
    command = _command(data, "prepare", commands.prepare_data, "find, check and pack a dataset")
    command.add_argument("dataset", metavar="DATASET")
    command.add_argument("--out", type=Path, help="folder of the packed files (default: results/data/DATASET)")
    command.add_argument("--source", default="auto", help="torchvision, folder or parquet (default: what is there)")
    command.add_argument("--download", action="store_true", help="fetch it with torchvision where it is not there")
    words = "decode every file of a folder of images, too (packing always does)"
    command.add_argument("--verify", action="store_true", help=words)
    words = "leave out of a folder of images what cannot be decoded, and note it; verifies"
    command.add_argument("--skip-corrupt", action="store_true", help=words)
    options.add_data_root(command)

    command = _command(data, "check", commands.check_data, "verify a packed dataset and say what is in it")
    command.add_argument("folder", type=Path, metavar="DIR")
    options.add_json(command)


def _add_training(subparsers: Any) -> None:
    command = _command(subparsers, "train", commands.train, "train a dense network")
    command.add_argument("--network", required=True)
    options.add_out(command, "folder of the checkpoint")
    options.add_images(command)
    options.add_recipe(command)
    options.add_run(command)

    command = _command(
        subparsers, "finetune", commands.finetune, "slim a network by a plan, recalibrate BN, and tune it"
    )
    options.add_checkpoint(command)
    command.add_argument("--plan", required=True, type=Path, help="plan.json")
    options.add_out(command, "folder of the checkpoint")
    options.add_images(command, calibration=True)
    options.add_recipe(command)
    options.add_run(command)

    command = _command(subparsers, "import", commands.import_weights, "make a checkpoint of published weights")
    words = "of torch.save (.pt, .pth, .th) or .safetensors; or torchvision:NAME, as torchvision:IMAGENET1K_V1"
    command.add_argument("file", metavar="FILE", help=words)
    command.add_argument("--network", required=True)
    command.add_argument("--dataset", required=True)
    options.add_out(command, "folder of the checkpoint")
    for name in ("mean", "std"):
        words = (
            "per channel, of pixels in 0..1, as its training normalised (default: torchvision's own, else ImageNet's)"
        )
        command.add_argument(f"--{name}", type=float, nargs="+", help=words)
    words = "splits that its training has seen (default: train val, as published weights have)"
    command.add_argument(
        "--trained-on", nargs="+", choices=["train", "val", "test"], default=["train", "val"], help=words
    )


def _add_pruning(subparsers: Any) -> None:
    command = _command(subparsers, "score", commands.score, "score every filter of a network by a method")
    options.add_checkpoint(command)
    options.add_method(command)
    options.add_out(command, "importance.safetensors")
    options.add_images(command, calibration=True)
    options.add_run(command)

    command = _command(subparsers, "plan", commands.plan, "choose the channels that stay")
    options.add_checkpoint(command)
    command.add_argument("--importance", required=True, type=Path, help="importance.safetensors")
    options.add_method(command)
    options.add_target(command)
    options.add_rounding(command)
    options.add_out(command, "plan.json")
    options.add_images(command, calibration=True)
    options.add_run(command)

    command = _command(subparsers, "prune", commands.prune, "score, plan and slim in one go")
    options.add_checkpoint(command)
    options.add_method(command)
    options.add_target(command)
    options.add_rounding(command)
    options.add_out(command, "folder of the slim checkpoint, with importance.safetensors and plan.json beside it")
    options.add_images(command, calibration=True)
    options.add_run(command)


def _add_controls(subparsers: Any) -> None:
    command = _command(
        subparsers, "random-at", control_commands.random_at, "draw random channels at the widths of a plan"
    )
    options.add_checkpoint(command)
    command.add_argument("--plan", required=True, type=Path, help="plan.json that gives the widths")
    options.add_out(command, "plan.json")
    command.add_argument("--seed", type=int, default=0, help="default: 0")

    command = _command(subparsers, "scratch", control_commands.scratch, "train a plan's slim network from scratch")
    options.add_checkpoint(command)
    command.add_argument("--plan", required=True, type=Path, help="plan.json")
    words = "same epochs or same compute as dense training and tuning together (default: epochs)"
    command.add_argument("--budget", choices=BUDGETS, default="epochs", help=words)
    command.add_argument("--tuning-epochs", type=int, required=True, help="epochs that the pruned network is tuned")
    options.add_out(command, "folder of the checkpoint")
    options.add_images(command, calibration=True)
    options.add_recipe(command)
    options.add_run(command)


def _add_stability(subparsers: Any) -> None:
    summary = "how much an importance depends on its calibration images"
    command = _command(subparsers, "stability", stability_commands.stability, summary)
    options.add_checkpoint(command)
    options.add_method(command)
    options.add_images(command)
    words = "counts of calibration images (default: 10 64 128 640)"
    command.add_argument("--images", type=int, nargs="+", metavar="N", default=[10, 64, 128, 640], help=words)
    words = "of the calibration images, at least 2 (default: 0 1 2 3 4)"
    command.add_argument("--seeds", type=int, nargs="+", metavar="K", default=[0, 1, 2, 3, 4], help=words)
    words = "fraction of the MACs to remove, at uniform widths (default: 0.5)"
    command.add_argument("--macs-reduction", type=float, default=0.5, help=words)
    command.add_argument("--scope", choices=["inner", "all"], default="all", help="default: all")
    options.add_out(command, "the JSON file")
    options.add_run(command, seed=False)


def _add_explain(subparsers: Any) -> None:
    summary = "show what a method's scores see on a few images"
    command = _command(subparsers, "explain", explain_commands.explain, summary)
    options.add_checkpoint(command)
    command.add_argument("--plan", required=True, type=Path, help="plan.json made of the method's scores")
    options.add_method(command)
    options.add_out(command, "attention.safetensors")
    options.add_images(command, calibration=True)
    options.add_run(command)


def _add_measuring(subparsers: Any) -> None:
    command = _command(subparsers, "measure", commands.measure, "accuracy, MACs and parameters of any checkpoint")
    options.add_checkpoint(command)
    command.add_argument("--out", type=Path, help="write the JSON there too")
    options.add_json(command)
    options.add_images(command)
    options.add_run(command, seed=False)

    command = _command(subparsers, "record", commands.record, "measure one setting of a suite and write record.json")
    command.add_argument("run_folder", type=Path, metavar="RUN", help="folder that finetune wrote")
    command.add_argument("--base", required=True, type=Path, help="folder of the dense checkpoint")
    command.add_argument("--base-measured", required=True, type=Path, help="what measure --out wrote of it")
    command.add_argument("--suite", required=True, help="name of the suite")
    command.add_argument("--variant", required=True, help="row of the table")
    options.add_method(command)
    command.add_argument("--of", metavar="VARIANT", help="of a control: the variant whose widths it takes")
    words = "hash of all that the setting follows from, as the workflow knows it"
    command.add_argument("--made-from", metavar="HASH", help=words)
    words = "STAGE=FILE: Snakemake's benchmark file of a stage"
    command.add_argument("--benchmarks", nargs="*", default=[], metavar="STAGE=FILE", help=words)
    options.add_out(command, "record.json")
    options.add_images(command, calibration=True)
    options.add_run(command)


def _add_deployment(subparsers: Any) -> None:
    summary = "write a network as ONNX or .pt2, and hold the file against the network"
    command = _command(subparsers, "export", deployment_commands.export, summary)
    options.add_checkpoint(command)
    command.add_argument("--format", required=True, choices=["onnx", "pt2"])
    command.add_argument("--out", type=Path, metavar="FILE", help="default: model.onnx or model.pt2 in CHECKPOINT")

    command = _command(subparsers, "latency", deployment_commands.latency, "time a network, alone or beside another")
    options.add_checkpoint(command)
    command.add_argument("--against", type=Path, metavar="CHECKPOINT", help="the dense network, to take turns with it")
    words = "images in a batch (default: 1 128)"
    command.add_argument("--batch-sizes", type=int, nargs="+", metavar="N", default=[1, 128], help=words)
    words = "of windows, each network in turn (default: 15)"
    command.add_argument("--rounds", type=int, default=15, help=words)
    command.add_argument("--dtype", choices=["float32", "bf16"], default="float32", help="default: float32")
    words = "time it as well, where it is installed, on the CPU in float32 (default: yes)"
    command.add_argument("--onnxruntime", action=argparse.BooleanOptionalAction, default=True, help=words)
    command.add_argument("--out", type=Path, help="write the JSON there too")
    options.add_json(command)
    options.add_run(command, seed=False, shares=False)


def _add_suites(subparsers: Any) -> None:
    suite = subparsers.add_parser("suite", help="check a suite, or write one out in full").add_subparsers(required=True)
    command = _command(suite, "check", commands.check_suite, "validate a suite, find its data, estimate its hours here")
    command.add_argument("suite", type=Path, metavar="SUITE.yaml")
    words = "say what a cluster of machines like this one makes of it, and keep for the workflow what its jobs need"
    command.add_argument("--cluster", action="store_true", help=words)
    command.add_argument("--machines", type=int, nargs="+", default=[1, 8, 64], metavar="N", help="default: 1 8 64")
    words = "seconds that a queue entry takes besides its work (default: 20)"
    command.add_argument("--overhead", type=float, default=20, metavar="SECONDS", help=words)
    options.add_results(command)
    options.add_packs(command)
    options.add_run(command, seed=False)

    words = "copy its finished records, tables, figures and page to results/reference"
    command = _command(suite, "keep", commands.keep_suite, words)
    command.add_argument("suite", type=Path, metavar="SUITE.yaml")
    options.add_results(command)
    words = "folder of kept results (default: results/reference)"
    command.add_argument("--reference", type=Path, default=REFERENCE, help=words)

    command = _command(suite, "write", commands.write_suite, "write a suite given as JSON, validated")
    command.add_argument("config", metavar="JSON")
    options.add_out(command, "the file")

    words = "take a kept record and plan in place of a run, if of the same dense network (the workflow calls it)"
    command = _command(subparsers, "reuse", commands.reuse_record, words)
    command.add_argument("record", type=Path, metavar="RECORD.json", help="in results/reference")
    command.add_argument("--base", required=True, type=Path, help="folder of the dense checkpoint")
    options.add_out(command, "record.json")

    command = _command(
        subparsers,
        "reproduce",
        reproduction_commands.reproduce,
        "run one record's setting again and compare every number",
    )
    command.add_argument("record", type=Path, metavar="RECORD.json", help="in its results folder")
    command.add_argument("--out", type=Path, help="empty folder for the rerun (default: a temporary one)")
    command.add_argument("--keep-base", action="store_true", help="take the dense network from the record's results")
    command.add_argument("--cores", type=int, metavar="N", help="for Snakemake (default: all)")

    summary = "collect a suite's records into tables, figures and a page"
    command = _command(subparsers, "report", commands.report, summary)
    command.add_argument("suite", type=Path, metavar="SUITE.yaml")
    options.add_results(command)
    parts = ["collect", "tables", "figures", "attention", "ledger", "published", "stability", "page"]
    command.add_argument("--only", choices=parts, help="one part; default: all")
    command.add_argument(
        "--partial", action="store_true", help="settings without a record stand as missing, with the reason"
    )
    command.add_argument("--where", action="store_true", help="only say where they lie")

    command = _command(subparsers, "bench", commands.bench, "speed, side by side with reference loops")
    command.add_argument("--out", type=Path, default=Path("results/bench"), help="folder (default: results/bench)")
    command.add_argument("--only", nargs="+", metavar="NAME", help="these benchmarks (default: all)")
    words = "checkouts of published training loops to train beside: akamaster, fpgm, hrankplus (docs/performance.md)"
    command.add_argument("--published", nargs="+", action="extend", default=[], metavar="NAME=FOLDER", help=words)
    command.add_argument("--windows", type=int, default=7, help="timed windows of each side, interleaved (default: 7)")
    command.add_argument("--steps", type=int, default=15, help="training steps in a window (default: 15)")
    words = "wait so long in all for other programs to be still, and repeat what they disturb (Linux; default: 0)"
    command.add_argument("--patience", type=float, default=0, metavar="MINUTES", help=words)
    options.add_run(command, seed=False, shares=False)
    options.add_json(command)
