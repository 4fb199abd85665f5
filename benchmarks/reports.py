"""Seconds from a thousand records to every output, and of Snakemake's dry run of as many settings."""

import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import yaml

from benchmarks.harness import Benchmark, Options, Side, Sides, under
from benchmarks.startup import run_python
from daar.storage.bundled import ROOT
from daar.suite import reading
from daar.suite.definition import Setting, Suite

# 3 networks, 6 variants, 3 targets, 19 seeds: 1,026 settings
SUITE: dict[str, Any] = {
    "suite": "thousand",
    "datasets": ["cifar10"],
    "networks": ["resnet20", "resnet56", "vgg16_bn"],
    "methods": ["bn_scale", "fpgm", "hrank", "l1", "random"],
    "variants": {"l1-at": {"random_at": "l1"}},
    "policies": ["uniform"],
    "macs_reductions": [0.3, 0.5, 0.7],
    "seeds": list(range(19)),
    "train": {"epochs": 200},
    "finetune": {"epochs": 200, "lr": 0.01},
}
# how many groups of channels each network has, and a size as large as theirs in the mean
_GROUPS = {"resnet20": (12, 33), "resnet56": (30, 36), "vgg16_bn": (13, 325)}


def benchmarks() -> list[Benchmark]:
    """The whole report, and the dry run."""
    return [
        Benchmark("report-1000", "`daar report` of 1,026 records with 200 epochs each", _report, under(12), most=5),
        Benchmark("dry-run-1000", "`snakemake -n` of 1,026 settings", _dry_run, most=5),
    ]


@contextmanager
def _report(_: Options) -> Iterator[Sides]:
    with _folder() as folder:
        write_results(reading.load(folder / "suite.yaml"), folder / "results")

        def report() -> None:
            run_python("-m", "daar", "report", "suite.yaml", cwd=folder)

        yield Sides(Side("all outputs in one process", report))


@contextmanager
def _dry_run(_: Options) -> Iterator[Sides]:
    with _folder() as folder:
        where = ("--snakefile", str(ROOT / "Snakefile"), "--configfile", "suite.yaml")

        def dry_run() -> None:
            run_python("-m", "snakemake", "-n", "--quiet", "all", *where, cwd=folder)

        yield Sides(Side("snakemake -n in an empty directory", dry_run))


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "suite.yaml").write_text(yaml.safe_dump(SUITE), encoding="utf-8")
        yield Path(name)


def write_results(suite: Suite, results: Path) -> None:
    """Write what the report of a suite reads: records, plans and importances, of random numbers.

    Args:
        suite: whose settings they are of.
        results: the folder of all results.
    """
    dice = random.Random(0)
    for setting in suite.settings:
        folder = results / suite.name / setting.path
        folder.mkdir(parents=True, exist_ok=True)
        groups = _groups(setting, dice)
        (folder / "record.json").write_text(json.dumps(_record(suite, setting, dice)), encoding="utf-8")
        (folder / "plan.json").write_text(json.dumps({"groups": groups}), encoding="utf-8")
        scores = {
            group["name"]: np.array([dice.random() for _ in range(group["size"])], dtype=np.float32) for group in groups
        }
        safetensors.numpy.save_file(scores, folder.parent / "importance.safetensors")


def _groups(setting: Setting, dice: random.Random) -> list[dict[str, Any]]:
    count, size = _GROUPS[setting.network]
    kept = round((1 - (setting.target or 0)) * size)
    return [
        {"name": f"layer{number}", "size": size, "kept": sorted(dice.sample(range(size), kept))}
        for number in range(count)
    ]


def _record(suite: Suite, setting: Setting, dice: random.Random) -> dict[str, Any]:
    target, macs = setting.target or 0.0, 125_000_000
    curve = [
        {
            "epoch": epoch, "lr": 0.01, "loss": dice.random(), "train_top1": 90 + dice.random(),
            "val_top1": 90 + dice.random(), "seconds": 40 + dice.random(),
        }
        for epoch in range(1, suite.finetune.epochs + 1)
    ]  # fmt: skip
    dense = {"dense": 93 + setting.seed / 100, "pruned": 10.0}
    top1 = {**dense, "recalibrated": 80.0, "tuned": 91 + dice.random(), "best_val": 91 + dice.random()}
    costs = {"score": 20.0, "plan": 10.0, "finetune": 8000.0, "measure": 40.0}
    return {
        "format": 1, "suite": suite.name, "dataset": setting.dataset, "network": setting.network, "seed": setting.seed,
        "variant": setting.variant.name, "method": setting.variant.method, "options": {}, "policy": setting.policy,
        "scope": setting.scope, "target": setting.target, "of": setting.variant.of,
        "control": setting.variant.name in ("random", "l1-at"),
        "base": {"sha256": f"{setting.seed:064x}", "imported": False, "saw_val": False},
        "recipe": suite.finetune.hash, "train_recipe": suite.train.hash, "made_from": "0" * 12,
        "calibration_images": suite.calibration_images, "top1": {"test": top1, "val": top1}, "top5": None,
        "macs": {
            "dense": macs, "slim": round(macs * (1 - target)), "slim_closed_form": round(macs * (1 - target)),
            "dense_thop": macs, "slim_thop": round(macs * (1 - target)),
        },
        "params": {"dense": 850_000, "slim": 400_000}, "macs_reduction": target, "params_reduction": 0.5,
        "slim_error": {"max_relative": 1e-15, "dtype": "float64", "images": 64},
        "seconds": costs, "peak_memory_mib": costs, "curve": curve,
        "hardware": {"cpu": "a CPU", "cores": 2, "gpu": None}, "threads": 1, "precision": "float32",
        "versions": {"daar": "0", "torch": "0"}, "commit": None,
    }  # fmt: skip
