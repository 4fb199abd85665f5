"""Look into scores: `stability` and `explain`.

Heavy modules are imported where they are needed.
"""

from argparse import Namespace
from pathlib import Path
from typing import Any

from daar.cli import arguments, options
from daar.methods import discovery
from daar.storage import files
from daar.storage.schemas import validate


def add_commands(subparsers: Any) -> None:
    """Add the parsers of this family."""
    _add_stability(subparsers)
    _add_explain(subparsers)


def _add_stability(subparsers: Any) -> None:
    summary = "how much an importance depends on its calibration images"
    command = options.command(subparsers, "stability", stability, summary)
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
    options.add_benchmark(command)


def _add_explain(subparsers: Any) -> None:
    summary = "show what a method's scores see on a few images"
    command = options.command(subparsers, "explain", explain, summary)
    options.add_checkpoint(command)
    command.add_argument("--plan", required=True, type=Path, help="plan.json made of the method's scores")
    options.add_method(command)
    options.add_out(command, "attention.safetensors")
    options.add_images(command, calibration=True)
    options.add_run(command)


def stability(a: Namespace) -> None:
    """`daar stability`."""
    method, chosen = discovery.get(a.method, a.methods_dir), arguments.options(a)
    from daar.stages import stability as stage

    result = stage.stability(
        base=a.checkpoint,
        method=method,
        options=chosen,
        packs=arguments.packs(a),
        images=a.images,
        seeds=a.seeds,
        scope=a.scope,
        target=a.macs_reduction,
        device=arguments.device(a),
    )
    validate(result, "stability", str(a.out), "Please report this.")
    files.write_json(a.out, result)
    print(stage.to_text(result))


def explain(a: Namespace) -> None:
    """`daar explain`."""
    method, chosen = discovery.get(a.method, a.methods_dir), arguments.options(a)
    from daar.stages.explain import explain as stage

    stage(
        base=a.checkpoint,
        plan_file=a.plan,
        method=method,
        options=chosen,
        packs=arguments.packs(a),
        seed=a.seed,
        images=a.images,
        out=a.out,
        device=arguments.device(a),
    )
    print(f"what {method.name} sees in a shallow and a deep layer: {a.out}")
