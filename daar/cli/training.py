"""Make and tune networks: `train`, `finetune`, `schedule`, `import`, `scratch`.

Heavy modules are imported where they are needed.
"""

from argparse import Namespace
from pathlib import Path
from typing import Any

from daar.cli import arguments, options
from daar.errors import InputError
from daar.methods import discovery
from daar.models import libraries
from daar.training import schedules
from daar.training.budget import BUDGETS
from daar.training.recipe import Recipe

# default of tuning, as in the paper suite: HRankPlus's recipe with Nesterov's momentum
TUNING = Recipe(epochs=150, lr=0.01, schedule="step", milestones=(50, 100), batch_size=256)


def add_commands(subparsers: Any) -> None:
    """Add the parsers of this family."""
    _add_train(subparsers)
    _add_finetune(subparsers)
    _add_schedule(subparsers)
    _add_import(subparsers)
    _add_scratch(subparsers)


def _add_train(subparsers: Any) -> None:
    command = options.command(subparsers, "train", train, "train a dense network", by_torchrun=True)
    options.add_network(command)
    options.add_out(command, "folder of the checkpoint", folder=True)
    options.add_images(command)
    options.add_recipe(command)
    options.add_run(command)
    options.add_benchmark(command)


def _add_finetune(subparsers: Any) -> None:
    command = options.command(
        subparsers, "finetune", finetune, "slim a network by a plan, recalibrate BN, and tune it", by_torchrun=True
    )
    options.add_checkpoint(command)
    command.add_argument("--plan", required=True, type=Path, help="plan.json")
    options.add_out(command, "folder of the checkpoint", folder=True)
    options.add_images(command, calibration=True)
    options.add_recipe(command)
    options.add_run(command)
    options.add_benchmark(command)


def _add_schedule(subparsers: Any) -> None:
    words = "score, plan, slim and tune as often as a schedule says, in one go"
    command = options.command(subparsers, "schedule", schedule, words)
    options.add_checkpoint(command)
    command.add_argument("kind", metavar="SCHEDULE", help=f"{', '.join(schedules.KINDS)}; see: daar list schedules")
    words = 'options of the schedule, such as {"rounds": 3}'
    command.add_argument("--schedule-options", default="{}", metavar="JSON", help=words)
    options.add_method(command)
    options.add_target(command)
    options.add_rounding(command)
    options.add_out(command, "folder of the tuned checkpoint, and of plan.json", folder=True)
    options.add_images(command, calibration=True)
    options.add_recipe(command)
    words = "hash of everything the setting depends on, given by the workflow"
    command.add_argument("--made-from", metavar="HASH", help=words)
    options.add_run(command)
    options.add_benchmark(command)


def _add_import(subparsers: Any) -> None:
    command = options.command(subparsers, "import", import_weights, "make a checkpoint of published weights")
    words = (
        "written by torch.save (.pt, .pth, .th), .safetensors, or torchvision:NAME such as torchvision:IMAGENET1K_V1"
    )
    command.add_argument("file", metavar="FILE", help=words)
    options.add_network(command)
    command.add_argument("--dataset", required=True)
    options.add_out(command, "folder of the checkpoint", folder=True)
    for name in ("mean", "std"):
        words = (
            "per channel, of pixels in 0..1, by which its training normalised (default: torchvision's, else ImageNet's)"
        )
        command.add_argument(f"--{name}", type=float, nargs="+", help=words)
    words = "splits that its training has seen (default: train val, as published weights have)"
    command.add_argument(
        "--trained-on", nargs="+", choices=["train", "val", "test"], default=["train", "val"], help=words
    )


def _add_scratch(subparsers: Any) -> None:
    command = options.command(
        subparsers, "scratch", scratch, "train a plan's slim network from scratch", by_torchrun=True
    )
    options.add_checkpoint(command)
    command.add_argument("--plan", required=True, type=Path, help="plan.json")
    words = "same epochs or same compute as dense training and tuning together (default: epochs)"
    command.add_argument("--budget", choices=BUDGETS, default="epochs", help=words)
    command.add_argument("--tuning-epochs", type=int, required=True, help="epochs that the pruned network is tuned")
    options.add_out(command, "folder of the checkpoint", folder=True)
    options.add_images(command, calibration=True)
    options.add_recipe(command)
    options.add_run(command)
    options.add_benchmark(command)


def train(a: Namespace) -> None:
    """`daar train`."""
    network = arguments.network(a, a.packs)
    recipe = arguments.recipe(a, Recipe())
    from daar.stages.train import train as stage

    with libraries.starting():
        stage(
            network=network,
            packs=arguments.packs(a),
            recipe=recipe,
            seed=a.seed,
            out=a.out,
            device=arguments.device(a),
            say=arguments.say(a),
        )


def finetune(a: Namespace) -> None:
    """`daar finetune`."""
    recipe = arguments.recipe(a, TUNING, "finetune")
    from daar.stages.finetune import finetune as stage

    stage(
        base=a.checkpoint,
        plan_file=a.plan,
        packs=arguments.packs(a),
        recipe=recipe,
        seed=a.seed,
        images=a.images,
        out=a.out,
        device=arguments.device(a),
        say=arguments.say(a),
    )


def schedule(a: Namespace) -> None:
    """`daar schedule`."""
    by = schedules.from_entry(a.kind, arguments.json_object(a.schedule_options, "--schedule-options"), "daar schedule")
    if by is None:
        raise InputError(f"{a.kind} is what score, plan and finetune do, one after the other. Run those.")
    method, recipe = discovery.get(a.method, a.methods_dir), arguments.recipe(a, TUNING, "finetune")
    chosen, (policy, ratios, given) = arguments.options(a), arguments.policy(a)
    discovery.split_options(method, chosen)
    from daar.stages.schedule import require_possible
    from daar.stages.schedule import schedule as stage

    require_possible(by, method, a.macs_reduction, recipe)
    stage(
        base=a.checkpoint,
        by=by,
        method=method,
        options=chosen,
        policy=policy,
        scope=a.scope,
        target=a.macs_reduction,
        packs=arguments.packs(a),
        recipe=recipe,
        seed=a.seed,
        images=a.images,
        out=a.out,
        device=arguments.device(a),
        methods_dirs=tuple(a.methods_dir),
        ratios=ratios,
        policy_options=given,
        round_to=a.round_to,
        made_from=a.made_from,
        say=arguments.say(a),
    )


def import_weights(a: Namespace) -> None:
    """`daar import`."""
    from daar.checkpoint import foreign
    from daar.stages.import_weights import import_weights as stage

    cast = stage(
        file=a.file,
        network=arguments.network(a),
        dataset=a.dataset,
        out=a.out,
        mean=a.mean and tuple(a.mean),
        std=a.std and tuple(a.std),
        trained_on=tuple(a.trained_on),
    )
    if cast:
        print(f"cast weights of {', '.join(cast)} to float32")
    print(f"imported {a.file} as {a.network} into {a.out}")
    names = [name for name in ("mean", "std") if not getattr(a, name)]
    if names and not a.file.startswith(foreign.TORCHVISION):
        options = " and ".join(f"--{name}" for name in names)
        print(f"ImageNet's {' and '.join(names)} will be used; give {options} if it was trained with others")


def scratch(a: Namespace) -> None:
    """`daar scratch`."""
    recipe = arguments.recipe(a, Recipe())
    from daar.stages.scratch import scratch as stage

    stage(
        base=a.checkpoint,
        plan_file=a.plan,
        packs=arguments.packs(a),
        recipe=recipe,
        tuning_epochs=a.tuning_epochs,
        budget=a.budget,
        seed=a.seed,
        images=a.images,
        out=a.out,
        device=arguments.device(a),
        say=arguments.say(a),
    )
