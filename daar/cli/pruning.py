"""Prune a network: `score`, `plan`, `prune`, `random-at`.

Heavy modules are imported where they are needed.
"""

import shutil
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from daar.cli import arguments, options
from daar.methods import discovery
from daar.storage import files


def add_commands(subparsers: Any) -> None:
    """Add the parsers of this family."""
    command = options.command(subparsers, "score", score, "score every filter of a network by a method")
    options.add_checkpoint(command)
    options.add_method(command)
    options.add_out(command, "importance.safetensors")
    options.add_images(command, calibration=True)
    options.add_run(command)
    options.add_benchmark(command)

    command = options.command(subparsers, "plan", plan, "choose the channels that stay")
    options.add_checkpoint(command)
    command.add_argument("--importance", required=True, type=Path, help="importance.safetensors")
    options.add_method(command)
    options.add_target(command)
    options.add_rounding(command)
    options.add_out(command, "plan.json")
    options.add_images(command, calibration=True)
    options.add_run(command)
    options.add_benchmark(command)

    command = options.command(subparsers, "prune", prune, "score, plan and slim in one go")
    options.add_checkpoint(command)
    options.add_method(command)
    options.add_target(command)
    options.add_rounding(command)
    options.add_out(command, "folder of the slim checkpoint, importance.safetensors and plan.json", folder=True)
    options.add_images(command, calibration=True)
    options.add_run(command)

    command = options.command(subparsers, "random-at", random_at, "draw random channels at the widths of a plan")
    options.add_checkpoint(command)
    command.add_argument("--plan", required=True, type=Path, help="plan.json that gives the widths")
    options.add_out(command, "plan.json")
    command.add_argument("--seed", type=int, default=0, help="default: 0")
    options.add_benchmark(command)


def score(a: Namespace) -> None:
    """`daar score`."""
    _score(a, a.out)


def plan(a: Namespace) -> None:
    """`daar plan`."""
    _plan(a, a.importance, a.out)


def prune(a: Namespace) -> None:
    """`daar prune`."""
    from daar.stages.prune import prune as stage

    arguments.policy(a)  # before the scores, which may take long
    # nothing is left in --out by a network that is refused on the way
    with tempfile.TemporaryDirectory(prefix="daar-prune-") as folder:
        scores, plan_file = Path(folder) / "importance.safetensors", Path(folder) / "plan.json"
        _score(a, scores)
        _plan(a, scores, plan_file)
        error = stage(
            base=a.checkpoint, plan_file=plan_file, packs=arguments.packs(a), seed=a.seed, images=a.images, out=a.out
        )
        for file in (scores, plan_file):
            with files.atomic(a.out / file.name) as temporary:
                shutil.copyfile(file, temporary)
    print(f"slim network in {a.out}: it equals the masked one to {error:.1e} of the largest logit (float64)")


def random_at(a: Namespace) -> None:
    """`daar random-at`."""
    from daar.checkpoint import checkpoint
    from daar.pruning import plan as plans
    from daar.pruning.groups import graph_of
    from daar.pruning.random_at import random_at as draw

    model, about = checkpoint.load(a.checkpoint)
    made = draw(plans.load(a.plan), graph_of(model, about.input_shape), a.seed)
    plans.save(a.out, made)
    print(f"random channels at the widths of {a.plan}: {made.macs:,} MACs")


def _score(a: Namespace, out: Path) -> None:
    method, chosen = discovery.get(a.method, a.methods_dir), arguments.options(a)
    from daar.stages.score import score as stage

    stage(
        base=a.checkpoint,
        method=method,
        options=chosen,
        packs=arguments.packs(a),
        seed=a.seed,
        images=a.images,
        out=out,
        device=arguments.device(a),
    )


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Layer → shape of its weight, of a checkpoint's network."""
    from daar.checkpoint import checkpoint
    from daar.pruning.groups import graph_of
    from daar.pruning.shapes import shapes_of

    model, about = checkpoint.load(folder)
    return shapes_of(graph_of(model, about.input_shape))


def _plan(a: Namespace, scores: Path, out: Path) -> None:
    method, chosen = discovery.get(a.method, a.methods_dir), arguments.options(a)
    policy, ratios, given = arguments.policy(a)
    from daar.pruning.policy_arguments import as_own
    from daar.stages.plan import plan as stage

    if ratios is None:
        method, chosen = as_own(method, chosen, policy, given, lambda: _shapes(a.checkpoint), a.methods_dir)
    made = stage(
        base=a.checkpoint,
        scores=scores,
        method=method,
        options=chosen,
        policy=policy,
        scope=a.scope,
        target=a.macs_reduction,
        packs=arguments.packs(a),
        seed=a.seed,
        images=a.images,
        out=out,
        device=arguments.device(a),
        methods_dirs=tuple(a.methods_dir),
        round_to=a.round_to,
        ratios=ratios,
    )
    print(f"{made.macs_dense:,} MACs become {made.macs:,}: {100 * (1 - made.macs / made.macs_dense):.2f} % removed")
