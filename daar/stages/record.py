"""Write the record of one setting: all numbers that tables need, and their provenance."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from daar.checkpoint import checkpoint
from daar.checkpoint.checkpoint import Description
from daar.data.loading import Split
from daar.errors import InputError
from daar.measure.accuracy import Accuracy
from daar.pruning.groups import graph_of
from daar.pruning.proof import CHECKED_IMAGES
from daar.pruning.slim import slim
from daar.stages.measure import accuracies, load_splits, sizes
from daar.stages.scratch import is_from_scratch
from daar.storage import documents, files, provenance
from daar.storage.schemas import validate


def record(
    *,
    suite: str,
    variant: str,
    method: str,
    control: bool,
    options: dict[str, Any],
    seed: int,
    images: int,
    base: Path,
    base_measured: Path,
    run: Path,
    packs: Path,
    out: Path,
    device: torch.device,
    benchmarks: dict[str, Path],
    of: str | None = None,
    made_from: str | None = None,
    code: Path | None = None,
) -> dict[str, Any]:
    """Measure the networks of one setting (pruned, recalibrated, tuned, best on val) and write record.json.

    Args:
        suite: name of the suite.
        variant: row of the table.
        method: that gives the importance, or the kind of control.
        control: whether the variant is a control.
        options: of the variant.
        seed: of the setting.
        images: number of calibration images.
        base: folder of the dense checkpoint.
        base_measured: output of `daar measure --json` of it.
        run: folder that `finetune` wrote.
        packs: folder of the packed dataset.
        out: record.json.
        device: where the networks run.
        benchmarks: score, plan and finetune → Snakemake's benchmark file, which need not exist.
        of: the variant that a control takes its widths from.
        made_from: hash of everything the setting depends on (`daar.run.reuse.made_from`), if a workflow gives it.
        code: file of the method; None of a control.

    Raises:
        InputError: a file is missing or damaged.
    """
    start = time.perf_counter()
    dense = documents.read_json(base_measured, "the measurement of the dense network")
    validate(dense, "measured", str(base_measured), "Make it again: daar measure --out")
    tuned, about = checkpoint.load(run)
    if about.plan is None or not {"base", "tuned"} <= about.provenance.keys():
        raise InputError(f"{run} should be a network that `daar finetune` wrote, but is another. Give its folder.")
    # also for a network trained from scratch: its row is in one table with rows of a base that has seen val
    saw_val = "val" in checkpoint.describe(base).trained_on
    slim_sizes = sizes(tuned, about)
    points = _points(base, run, about, load_splits(packs, with_val=not saw_val), device)
    # a method's own rule may have no benchmark
    measured = {stage: _benchmark(path) for stage, path in benchmarks.items() if path.exists()}
    base_about = about.provenance["base"]
    how = about.provenance["tuned"]
    content = {
        "format": 1,
        "suite": suite,
        **{"dataset": about.dataset, "network": about.network, "seed": seed},
        **{"variant": variant, "method": method, "options": options},
        **{"policy": about.plan.policy, "scope": about.plan.scope, "target": about.plan.target},
        "control": control,
        "of": of,
        "base": {"sha256": base_about["sha256"], "imported": "imported" in base_about, "saw_val": saw_val},
        "recipe": how["recipe_hash"],
        "train_recipe": base_about.get("recipe_hash"),
        "made_from": made_from,
        "calibration_images": images,
        "top1": _table(dense, points, "top1"),
        "top5": _table(dense, points, "top5") if dense["top5"] is not None else None,
        "macs": {
            "dense": dense["macs"],
            "slim": slim_sizes["macs"],
            "slim_closed_form": slim_sizes["macs_closed_form"],
            "dense_thop": dense["macs_thop"],
            "slim_thop": slim_sizes["macs_thop"],
        },
        "params": {"dense": dense["params"], "slim": slim_sizes["params"]},
        "macs_reduction": 1 - slim_sizes["macs"] / dense["macs"],
        "params_reduction": 1 - slim_sizes["params"] / dense["params"],
        "slim_error": {"max_relative": about.provenance["slim_error"], "dtype": "float64", "images": CHECKED_IMAGES},
        "seconds": {**{stage: row["s"] for stage, row in measured.items()}, "measure": time.perf_counter() - start},
        "peak_memory_mib": {stage: row["max_rss"] for stage, row in measured.items() if "max_rss" in row},
        "curve": how["curve"],
        "precision": how.get("precision"),  # networks tuned before it was noted have none
        **{key: how[key] for key in ("threads", "hardware", "versions")},
        "commit": provenance.with_method(how["commit"], code),
    }
    validate(content, "record", str(out), "Report this: a stage wrote what the record cannot hold.")
    files.write_json(out, content)
    return content


def _points(
    base: Path, run: Path, about: Description, splits: Mapping[str, Split], device: torch.device
) -> dict[str, dict[str, Accuracy]]:
    """Accuracies of the slim network: untuned, recalibrated, tuned, and at its best epoch on val if there is one.

    Networks with the same weights, as without tuning or where the last epoch is the best, are measured once. Without
    val there is no best epoch.
    """
    points = {}
    if not is_from_scratch(about):  # a network from scratch was never pruned
        dense, dense_about = checkpoint.load(base)
        graph = graph_of(dense, about.input_shape)
        assert about.plan is not None
        untuned = slim(dense, graph, about.plan.removed(graph))
        points["pruned"] = accuracies(untuned, dense_about, splits, device)
    folders = {
        "recalibrated": run / "recalibrated",
        "tuned": run,
        **({"best_val": run / "best"} if "val" in splits else {}),
    }
    measured: dict[str, dict[str, Accuracy]] = {}
    for name, folder in folders.items():
        if (folder / "model.json").exists():
            model, described = checkpoint.load(folder)
            weights = files.sha256(folder / "model.safetensors")
            if weights not in measured:
                measured[weights] = accuracies(model, described, splits, device)
            points[name] = measured[weights]
    return points


def _table(dense: dict[str, Any], points: dict[str, Any], which: str) -> dict[str, dict[str, Any]]:
    """Split → point → percent; None where it was not measured."""
    names = ("pruned", "recalibrated", "tuned", "best_val")
    by_split = {
        split: {name: getattr(points[name][split], which) if split in points.get(name, {}) else None for name in names}
        for split in ("test", "val")
    }
    by_split["test"] = {"dense": dense[which], **by_split["test"]}
    by_split["val"] = {"dense": dense[f"val_{which}"], **by_split["val"]}
    return by_split


def _benchmark(path: Path) -> dict[str, float]:
    """The numbers of a Snakemake benchmark file: a header and one row, tab-separated; s, max_rss (MiB) and more."""
    header, row, *_ = [*documents.read_text(path, "a benchmark file of Snakemake's").splitlines(), "", ""]
    numbers = {}
    for key, value in zip(header.split("\t"), row.split("\t"), strict=False):
        try:
            numbers[key] = float(value)
        except ValueError:  # h:m:s, and "-" or "NA" if a job was too short to be sampled
            continue
    if not 0 <= numbers.get("s", -1) < math.inf or not 0 <= numbers.get("max_rss", 0) < math.inf:
        raise InputError(f"{path} should have seconds in its column s, but has not. Delete it, or run its job again.")
    return numbers
