"""Prune torchvision's CNNs by L1 and print how much could be removed, as Markdown.

    python -m benchmarks.torchvision_table [PREFIX …] > docs/torchvision.md

Weights and BN statistics are random: exactness does not depend on them. Transformers without convs are left out.
"""

import gc
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import detection, segmentation, video

import daar
from daar.errors import InputError
from daar.pruned import Pruned

IMAGES = 2
# tried in this order; if none is in reach, the network has nothing to remove
TARGETS = (0.5, 0.4, 0.3, 0.2, 0.1)
# where half is not in reach in the first, the next is tried
SCOPES = ("all", "units")
_COLUMNS = """
| network | MACs | removed | params removed | error | what was changed; what stays and why | s |
|---|---|---|---|---|---|---|"""
HEAD = f"""# Every CNN of torchvision {torchvision.__version__}

Pruned by `daar.prune(model, images, method="l1", macs_reduction=0.5)`, scope `all`, and where half is out of reach
scope `units`, with the hidden units of linear layers; {IMAGES} random images, torch {torch.__version__}, on a CPU.
Weights and BN statistics are random. If half of the MACs is out of reach in both, the target is the largest of 40, 30,
20 and 10 % in reach. *Error* is max |slim − masked| / max |output| in float64; below 1e-4 in float32 for networks that
fix that type inside; 0 where every operation was compared instead, because all outputs are zero or the order of boxes
of one score is rounding's. At most three reasons are listed. Seconds are of the whole call, with the check, on a busy
machine: only their order of magnitude counts.

Made by `python -m benchmarks.torchvision_table`.

## Classification

224 pixels, 299 for Inception. ViT and Swin have no filters to prune.
{_COLUMNS}"""
FURTHER = f"""
## Segmentation, video and detection

Segmentation at 64 pixels; video as 8 frames (S3D: 16) of 112 (224) pixels; detectors as a whole, with the choice of
boxes, at 128 pixels (SSD and SSDlite: their own). MViT and Swin3D have few filters or none.
{_COLUMNS}"""

_RANDOM: dict[str, Any] = {"weights": None, "weights_backbone": None}
_SMALL: dict[str, Any] = {"min_size": 128, "max_size": 128}


def classifier(name: str) -> nn.Module:
    """A classification network with random weights."""
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return made(name, weights=None, **options)


def made(name: str, **options: Any) -> nn.Module:
    """Any network of torchvision."""
    model: nn.Module = torchvision.models.get_model(name, **options)
    return model


def _beyond() -> Iterator[tuple[str, Callable[[], nn.Module], Tensor]]:
    """Each network, what makes it, and images of its kind."""
    for name in torchvision.models.list_models(module=segmentation):
        yield name, partial(made, name, **_RANDOM), torch.randn(IMAGES, 3, 64, 64)
    for name in torchvision.models.list_models(module=video):
        if not name.startswith(("mvit", "swin3d")):
            size = (16, 224, 224) if name == "s3d" else (8, 112, 112)
            yield name, partial(made, name, weights=None), torch.randn(IMAGES, 3, *size)
    for name in torchvision.models.list_models(module=detection):
        if not name.startswith(("keypoint", "mask")):
            pixels, options = (320, {}) if name.startswith("ssd") else (128, _SMALL)
            yield name, partial(made, name, **_RANDOM, **options), torch.randn(IMAGES, 3, pixels, pixels)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """A network always of the same weights, and BN statistics in the range of trained ones."""
    torch.manual_seed(0)
    model = make()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


def prune(model: nn.Module, images: Tensor) -> Pruned:
    """Prune for the highest target in reach, in the narrowest scope that reaches it."""
    for target in TARGETS:
        for scope in SCOPES:
            try:
                return daar.prune(model, images, method="l1", macs_reduction=target, scope=scope)
            except InputError as error:
                last = error
                if "cannot be reached" not in str(error) and "no group of this network" not in str(error):
                    raise
    raise last


def row(name: str, model: nn.Module, images: Tensor) -> str:
    """One row of the table."""
    start = time.perf_counter()
    try:
        pruned = prune(model, images)
    except InputError as error:
        return f"| {name} | | refused | | | {short(str(error))} | |"
    seconds = time.perf_counter() - start
    report = pruned.report
    outputs = {reason for reason in report.frozen.values() if reason.startswith("network output")}
    why = [reason for reason in [*report.frozen.values(), *report.fixed.values()] if reason not in outputs]
    said = ["scope units"] if report.scope == "units" else []
    said += [*report.repairs, *dict.fromkeys(map(short, why))]
    notes = "; ".join([*said[:3], *([f"and {len(said) - 3} more"] if len(said) > 3 else [])])
    return (
        f"| {name} | {report.macs_dense / 1e6:,.1f} M | {100 * report.macs_reduction:.1f} % | "
        f"{100 * report.params_reduction:.1f} % | {report.slim_error:.1e} | {notes} | {seconds:.1f} |"
    )


def short(reason: str) -> str:
    """A reason without what a table has elsewhere: other layers, paths of torchvision."""
    reason = reason.removeprefix("no group of this network may be pruned in scope 'units'. ").split("; so do")[0]
    return (
        reason.replace(f"{torchvision.__path__[0]}/", "").replace(f"{torch.__path__[0]}/", "torch/").replace("|", "/")
    )


def main() -> None:
    """Print the tables."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    prefixes = tuple(sys.argv[1:])
    names = [n for n in torchvision.models.list_models(module=torchvision.models) if not n.startswith(("vit", "swin"))]
    print(HEAD, flush=True)
    for name in names:
        if name.startswith(prefixes or ""):
            images = torch.randn(IMAGES, 3, *(2 * [299 if name == "inception_v3" else 224]))
            print(row(name, seeded(partial(classifier, name)), images), flush=True)
            gc.collect()
    print(FURTHER, flush=True)
    for name, make, images in _beyond():
        if name.startswith(prefixes or ""):
            print(row(name, seeded(make), images), flush=True)
            gc.collect()


if __name__ == "__main__":
    main()
