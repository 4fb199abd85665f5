"""Put a network to use: `export` and `latency`.

Heavy modules are imported where they are needed.
"""

import argparse
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from daar.cli import arguments, options
from daar.storage import files
from daar.storage.schemas import validate


def add_commands(subparsers: Any) -> None:
    """Add the parsers of this family."""
    summary = "write a network as ONNX or .pt2, and compare the file with the network"
    command = options.command(subparsers, "export", export, summary)
    options.add_checkpoint(command)
    command.add_argument("--format", required=True, choices=["onnx", "pt2"])
    options.add_out(command, "default: model.onnx or model.pt2 in CHECKPOINT", required=False, metavar="FILE")

    command = options.command(subparsers, "latency", latency, "time a network, alone or compared with another")
    options.add_checkpoint(command)
    command.add_argument(
        "--against", type=Path, metavar="CHECKPOINT", help="the dense network, timed in alternation with it"
    )
    words = "images in a batch (default: 1 128)"
    command.add_argument("--batch-sizes", type=int, nargs="+", metavar="N", default=[1, 128], help=words)
    words = "rounds, each with one window of every network (default: 15)"
    command.add_argument("--rounds", type=int, default=15, help=words)
    command.add_argument("--dtype", choices=["float32", "bf16"], default="float32", help="default: float32")
    words = "also time it, if it is installed, on the CPU in float32 (default: yes)"
    command.add_argument("--onnxruntime", action=argparse.BooleanOptionalAction, default=True, help=words)
    options.add_out(command, "write the JSON there too", required=False)
    options.add_json(command)
    options.add_run(command, seed=False, shares=False)


def export(a: Namespace) -> None:
    """`daar export`."""
    from daar.stages.export import export as stage

    out, error = stage(folder=a.checkpoint, form=a.format, out=a.out)
    print(f"{out}: equal to the network, largest difference {error:.1e} of the largest logit")


def latency(a: Namespace) -> None:
    """`daar latency`."""
    device = arguments.device(a)
    from daar.stages.latency import latency as stage

    measured = stage(
        folder=a.checkpoint,
        against=a.against,
        batch_sizes=a.batch_sizes,
        rounds=a.rounds,
        dtype=a.dtype,
        device=device,
        onnxruntime=a.onnxruntime,
    )
    validate(measured, "latency", "what was measured", "Please report this.")
    if a.out:
        files.write_json(a.out, measured)
    print(json.dumps(measured, indent=2) if a.json else _to_text(measured))


def _to_text(measured: dict[str, Any]) -> str:
    """The stage's result as a table for reading."""
    from tabulate import tabulate

    names = ("dense", "slim") if measured["dense"] else ("slim",)
    heads = ["batch", "runtime", *(f"{name} {unit}" for name in names for unit in ("ms", "images/s")), "dense / slim"]
    rows = [
        [batch["batch_size"], runtime, *_cells(batch[runtime], names)]
        for batch in measured["batches"]
        for runtime in ("torch", "onnxruntime")
        if batch[runtime]
    ]
    table = tabulate(rows, heads[: 2 + len(rows[0][2:])], disable_numparse=True, colalign=("right", "left"))
    sizes = ", ".join(f"{measured[name]['network']} {name} {measured[name]['macs']:,} MACs" for name in names)
    threads = f"{measured['threads']} thread{'' if measured['threads'] == 1 else 's'}"
    how = f"{measured['device']}, {measured['dtype']}, {measured['memory_format']}, {threads}"
    why = measured["onnxruntime"]["reason"]
    return "\n".join(
        [
            f"{sizes}; {how}",
            table,
            f"medians over {measured['rounds']} rounds of alternating windows, quartiles in brackets",
            *([f"onnxruntime: {why}"] if why else []),
        ]
    )


def _cells(compared: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    cells = []
    for name in names:
        one = compared[name]
        cells.append(f"{one['median_ms']:.4g} ({one['q1_ms']:.4g}–{one['q3_ms']:.4g})")
        cells.append(f"{one['images_per_second']:,.0f}")
    if ratio := compared["ratio"]:
        cells.append(f"{ratio['median']:.2f}× ({ratio['q1']:.2f}–{ratio['q3']:.2f})")
    return cells
