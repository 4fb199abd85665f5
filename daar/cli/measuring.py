"""Measure a network: `measure` and `record`.

Heavy modules are imported where they are needed.
"""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daar.cli import arguments, options
from daar.device import distributed
from daar.errors import InputError
from daar.methods import discovery
from daar.storage import files
from daar.suite.definition import recorded


def add_commands(subparsers: Any) -> None:
    """Add the parsers of this family."""
    command = options.command(
        subparsers, "measure", measure, "accuracy, MACs and parameters of any checkpoint", by_torchrun=True
    )
    options.add_checkpoint(command)
    options.add_out(command, "write the JSON there too", required=False)
    options.add_json(command)
    options.add_images(command)
    options.add_run(command, seed=False)

    command = options.command(subparsers, "record", record, "measure one setting of a suite and write record.json")
    command.add_argument("run_folder", type=Path, metavar="RUN", help="folder that finetune wrote")
    command.add_argument("--base", required=True, type=Path, help="folder of the dense checkpoint")
    options.add_networks_dir(command)
    command.add_argument("--base-measured", required=True, type=Path, help="the JSON that measure --out wrote of it")
    command.add_argument("--suite", required=True, help="name of the suite")
    command.add_argument("--variant", required=True, help="row of the table")
    options.add_method(command)
    options.add_policy_options(command)
    command.add_argument("--of", metavar="VARIANT", help="of a control: the variant whose widths it takes")
    words = "hash of everything the setting depends on, given by the workflow"
    command.add_argument("--made-from", metavar="HASH", help=words)
    words = "STAGE=FILE: Snakemake's benchmark file of a stage"
    command.add_argument("--benchmarks", nargs="*", default=[], metavar="STAGE=FILE", help=words)
    options.add_out(command, "record.json")
    options.add_images(command, calibration=True)
    options.add_run(command)


def measure(a: Namespace) -> None:
    """`daar measure`."""
    from daar.device.malloc import retain_freed_memory
    from daar.stages.measure import measure as stage

    device = arguments.device(a)
    with retain_freed_memory(device):  # every batch needs the same
        measured = stage(folder=a.checkpoint, packs=arguments.packs(a), device=device)
    if a.out and distributed.is_first():
        files.write_json(a.out, measured)
    if a.json:
        print(json.dumps(measured, indent=2))
        return
    val = "seen in training" if measured["val_seen"] else f"{measured['val_top1']:.2f} %"
    images = f"{measured['images']:,} test images"
    print(f"{measured['network']} on {measured['dataset']}: top-1 {measured['top1']:.2f} % of {images}, val {val}")
    thop = f"{measured['macs_thop']:,}" if measured["macs_thop"] is not None else "fails"
    counters = f"closed form {measured['macs_closed_form']:,}; thop, which adds BN: {thop}"
    print(f"{measured['macs']:,} MACs ({counters}), {measured['params']:,} parameters")


def record(a: Namespace) -> None:
    """`daar record`."""
    benchmarks = dict(item.split("=", 1) for item in a.benchmarks if "=" in item)
    if len(benchmarks) < len(a.benchmarks):
        raise InputError(f"--benchmarks takes STAGE=FILE, got {a.benchmarks}. Name the stage of each file.")
    from daar.device.malloc import retain_freed_memory

    stage, device = _recording(a.run_folder), arguments.device(a)
    used = discovery.get(a.method, a.methods_dir) if a.of is None else None
    with retain_freed_memory(device):
        stage(
            suite=a.suite,
            variant=a.variant,
            method=a.method,
            control=used is None or bool(used.info.get("control", False)),
            code=None if used is None else used.code,
            of=a.of,
            made_from=a.made_from,
            options=recorded(arguments.options(a), arguments.policy_options(a)),
            seed=a.seed,
            images=a.images,
            base=a.base,
            base_measured=a.base_measured,
            run=a.run_folder,
            packs=arguments.packs(a),
            out=a.out,
            device=device,
            benchmarks={stage_name: Path(file) for stage_name, file in benchmarks.items()},
        )


def _recording(run: Path) -> Callable[..., Any]:
    """What records a network: the stage of its own that a schedule's has."""
    from daar.checkpoint import checkpoint
    from daar.stages.record import record as stage
    from daar.stages.schedule import record_scheduled

    scheduled = "schedule" in checkpoint.describe(run).provenance.get("tuned", {})
    return record_scheduled if scheduled else stage
