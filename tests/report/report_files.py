"""The files that a run leaves next to its results.csv, for tests of what reads them."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.numpy

from daar.report import figures
from daar.suite.figures import KINDS
from daar.suite.names import Names

SIZES = {"conv1": 16, "layer1.0.conv1": 16, "layer2.0.conv1": 32}
# the first group is a stream of two convs
LAYERS = {"conv1": 16, "layer1.0.conv1": 16, "layer1.0.conv2": 16, "layer2.0.conv1": 32}


def folder(results: Path, row: Mapping[str, Any]) -> Path:
    """`results/<suite>/<dataset>/<network>/seed<k>/<variant>/<policy>-<scope>-<target>`."""
    target = "own" if pd.isna(row["target"]) else f"{row['target']:g}"
    variant = results.parent / row["dataset"] / row["network"] / f"seed{row['seed']}" / row["variant"]
    return Path(variant / f"{row['policy']}-{row['scope']}-{target}")


def write_plan(place: Path, kept: Mapping[str, int], sizes: Mapping[str, int] = SIZES) -> None:
    """A plan that keeps the first `kept` channels of each group."""
    place.mkdir(parents=True, exist_ok=True)
    groups = [{"name": name, "size": sizes[name], "kept": list(range(count))} for name, count in kept.items()]
    (place / "plan.json").write_text(json.dumps({"groups": groups}))


def write_curve(place: Path, val: Sequence[float], lr: float = 0.01) -> None:
    """A record of which only the curve is read; the lr is divided by 10 after the first epoch."""
    place.mkdir(parents=True, exist_ok=True)
    curve = [
        {"epoch": k + 1, "lr": lr if k == 0 else lr / 10, "loss": 1 / (k + 1), "train_top1": 99.0, "val_top1": top1}
        for k, top1 in enumerate(val)
    ]
    (place / "record.json").write_text(json.dumps({"curve": curve}))


def write_importance(variant: Path, seed: int) -> None:
    """Scores drawn for every layer."""
    dice = np.random.default_rng(seed)
    variant.mkdir(parents=True, exist_ok=True)
    scores = {layer: dice.random(size).astype(np.float32) for layer, size in LAYERS.items()}
    safetensors.numpy.save_file(scores, variant / "importance.safetensors")


def write_setting_files(results: Path, frame: pd.DataFrame) -> None:
    """Some plan, importance and curve for every row."""
    for index, row in enumerate(frame.to_dict("records")):
        place = folder(results, row)  # type: ignore[arg-type]
        write_plan(place, {name: size // 2 for name, size in SIZES.items()})
        write_curve(place, [90.0, 91.0])
        write_importance(place.parent, index)


def draw_all(results: Path, folder: Path, names: Names, scored: Collection[str] = ()) -> list[Path]:
    """Every kind of figure that the results have."""
    paths: list[Path] = []
    for kind in KINDS:
        paths += getattr(figures, kind.replace("-", "_"))(results, folder, names, scored)
    return paths
