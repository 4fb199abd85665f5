"""Options that several commands share."""

import argparse
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from daar.device.gpu import DEVICES, SLOTS
from daar.suite import paths
from daar.training.recipe import OPTIMIZERS, PRECISIONS, SCHEDULES, Recipe

_CHOICES = {"schedule": SCHEDULES, "optimizer": OPTIMIZERS, "precision": PRECISIONS}


def command(
    subparsers: Any, name: str, run: Callable[[argparse.Namespace], None], summary: str, *, by_torchrun: bool = False
) -> Any:
    """Add a command.

    Args:
        subparsers: of the command line, or of the command that it belongs to.
        name: as it is typed.
        run: the function that runs it.
        summary: a phrase for the help.
        by_torchrun: whether it can run in several processes.
    """
    parser = subparsers.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    parser.set_defaults(run=run, by_torchrun=by_torchrun)
    return parser


def add_json(command: Any) -> None:
    """Print JSON instead of text."""
    command.add_argument("--json", action="store_true", help="for scripts: stable keys, see docs/commands.md")


def add_out(command: Any, what: str, *, folder: bool = False, required: bool = True, **how: Any) -> None:
    """The file or folder to write; `out_is_folder` says which, so that it can be looked at before the work."""
    command.add_argument("--out", required=required, type=Path, help=what, **how)
    command.set_defaults(out_is_folder=folder)


def add_checkpoint(command: Any) -> None:
    """The checkpoint to work on."""
    command.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="folder with model.safetensors and model.json"
    )
    add_networks_dir(command)


def add_network(command: Any) -> None:
    """A network by name."""
    words = "see: daar list networks; a file's name in --networks-dir; or timm:NAME, torchvision:NAME"
    command.add_argument("--network", required=True, help=words)
    add_networks_dir(command)


def add_networks_dir(command: Any) -> None:
    """A folder of networks of one's own; `main` has them looked for there."""
    words = "a folder of networks of your own, files with build(num_classes), which are run as code"
    command.add_argument("--networks-dir", type=Path, action="append", default=[], help=words)


def add_methods_dir(command: Any) -> None:
    """A further folder of methods."""
    words = "a further folder of methods, next to baselines/"
    command.add_argument("--methods-dir", type=Path, action="append", default=[], help=words)


def add_data_root(command: Any) -> None:
    """The folder in which datasets are looked for."""
    words = "where datasets are looked for (default: DAAR_DATA_ROOT, else data)"
    command.add_argument("--data-root", type=Path, help=words)


def add_suite(command: Any) -> None:
    """The suite."""
    command.add_argument(
        "suite", metavar="SUITE", help="its file, or the name of one that comes with daar, such as demo"
    )


def add_results(command: Any) -> None:
    """The folder of results."""
    words = "folder of all results (default: results)"
    command.add_argument("--results", type=Path, default=Path(paths.RESULTS), help=words)


def add_packs(command: Any) -> None:
    """The folder of packed datasets."""
    words = "folder of the packed datasets (default: results/data)"
    command.add_argument("--packs", type=Path, default=Path(paths.PACKS), help=words)


def add_images(command: Any, *, calibration: bool = False) -> None:
    """Dataset, packs, data root; with `calibration` the number of calibration images."""
    command.add_argument("--dataset", required=True, help="packed first if it is not yet")
    add_packs(command)
    add_data_root(command)
    if calibration:
        words = "calibration images out of the train part (default: 640)"
        command.add_argument("--images", type=int, default=640, help=words)


def add_method(command: Any) -> None:
    """A method with its options."""
    command.add_argument("--method", default="l1", help="see: daar list methods (default: l1)")
    command.add_argument("--options", default="{}", metavar="JSON", help="keyword options of the method")
    add_methods_dir(command)


def add_target(command: Any) -> None:
    """Policy, scope and target of a plan."""
    command.add_argument("--policy", help="see: daar list policies (default: the method's)")
    add_policy_options(command)
    words = (
        'a policy of your own: the fraction of filters to remove by glob pattern, {"layer3.*": 0.5}, or for each conv '
        "as papers write it, [0.]+[0.5]*12"
    )
    command.add_argument("--ratios", metavar="JSON|TEXT", help=words)
    command.add_argument("--scope", choices=["inner", "all"], default="all", help="default: all")
    words = "fraction of the MACs to remove (default: the policy's own rate)"
    command.add_argument("--macs-reduction", type=float, help=words)


def add_policy_options(command: Any) -> None:
    """The options of a policy."""
    words = "keyword options of the policy, whosever it is"
    command.add_argument("--policy-options", default="{}", metavar="JSON", help=words)


def add_rounding(command: Any) -> None:
    """Rounding of widths."""
    words = "keep a multiple of N channels in each group, such as 8 (default: 1)"
    command.add_argument("--round-to", type=int, default=1, metavar="N", help=words)


def add_run(command: Any, *, seed: bool = True, shares: bool = True) -> None:
    """Device, threads, seed."""
    words = f"{', '.join(DEVICES)}, or one GPU as cuda:1 (default: auto)"
    command.add_argument("--device", default="auto", metavar="DEVICE", help=words)
    if shares:
        words = f"jobs that may share a GPU (default: {SLOTS}, else 1)"
        command.add_argument("--slots-per-gpu", type=int, metavar="N", help=words)
    else:  # another job on the GPU would disturb the measurement
        command.set_defaults(slots_per_gpu=1)
    command.add_argument(
        "--threads", type=int, help="CPU threads (default: all cores); a narrow network is tuned on one of them"
    )
    if seed:
        command.add_argument("--seed", type=int, default=0, help="default: 0")
        command.add_argument("--label", default="", help="prefix of every line of output")


def add_benchmark(command: Any) -> None:
    """What the command costs."""
    words = "write seconds, CPU seconds and memory, as Snakemake's benchmark files have them"
    command.add_argument("--benchmark", type=Path, metavar="FILE", help=words)


def add_recipe(command: Any) -> None:
    """A recipe, and an option for each of its settings."""
    words = "a published recipe (see daar list recipes), settings as JSON, or a YAML or JSON file of them"
    command.add_argument("--recipe", metavar="NAME|JSON|FILE", help=words)
    group = command.add_argument_group("recipe", "each overrides --recipe; see daar/training/recipe.py")
    for field in fields(Recipe):
        flag = f"--{field.name.replace('_', '-')}"
        if isinstance(field.default, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction)
        elif isinstance(field.default, tuple):
            group.add_argument(flag, type=float if field.name == "betas" else int, nargs="*")
        else:
            kind = float if field.type in (float, "float") else type(field.default)
            group.add_argument(flag, type=kind, choices=_CHOICES.get(field.name))
