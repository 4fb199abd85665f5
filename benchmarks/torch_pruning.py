"""Torch-Pruning 1.6.1 on the same networks: its group magnitude pruner."""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.hook_check import checked
from daar.device.precision import evaluating

CLASSES = 10
# ratios of channels, tried in this order until half of the MACs are gone
RATIOS = (0.3, 0.35, 0.45, 0.6, 0.8)


def macs_of(model: nn.Module, images: Tensor) -> int:
    """MACs by torch's own counter."""
    with torch.no_grad(), evaluating(model), FlopCounterMode(display=False) as counter:
        model(images)
    return int(counter.get_total_flops()) // 2


def pruned(model: nn.Module, images: Tensor) -> dict[str, Any]:
    """Prune by `GroupMagnitudeImportance(p=1)`, all but the classifier: MACs removed, and whether that is exact.

    Args:
        model: the dense network; left as it is.
        images: of the run.
    """
    dense = macs_of(model, images)
    found: dict[str, Any] = {}
    for ratio in RATIOS:
        slimmed = copy.deepcopy(model)
        try:
            prune_in_place(slimmed, images[:1], ratio)
        except Exception as error:  # whatever it raises is what its user sees
            return found or {"outcome": "crash", "why": _line(error)}
        try:
            removed = 1 - macs_of(slimmed, images) / dense
        except Exception as error:  # the network that it made
            return found or {"outcome": "its network fails", "why": _line(error)}
        found = {"outcome": "pruned", "ratio": ratio, "removed": removed}
        try:
            verdict = checked(model, slimmed, images)
            found |= {"error": verdict.error, "skipped": verdict.skipped}
        except Exception as error:  # of its network in float64
            found |= {"error": None, "skipped": [_line(error)]}
        if removed >= 0.5:
            break
    return found


def magnitude_pruned(
    model: nn.Module, images: Tensor, target: float, classes: int, *, shared: bool
) -> tuple[nn.Module, float]:
    """Prune by `GroupMagnitudeImportance()` with the lowest ratio that removes this fraction of the MACs.

    Args:
        model: the dense network; left as it is.
        images: one or more, for which MACs are counted.
        target: fraction of the MACs.
        classes: of the classifier, which stays whole.
        shared: one threshold for all layers, in place of one ratio.

    Returns:
        The slim network, and the ratio of channels to 1/1024.
    """
    most = (1 - target) * macs_of(model, images)
    low, high = 0, 1024
    while high - low > 1:
        middle = (low + high) // 2
        slimmed = copy.deepcopy(model)
        prune_in_place(slimmed, images[:1], middle / 1024, classes=classes, p=2, shared=shared)
        low, high = (low, middle) if macs_of(slimmed, images) <= most else (middle, high)
    slimmed = copy.deepcopy(model)
    prune_in_place(slimmed, images[:1], high / 1024, classes=classes, p=2, shared=shared)
    return slimmed, high / 1024


def prune_in_place(
    model: nn.Module, images: Tensor, ratio: float, *, classes: int = CLASSES, p: int = 1, shared: bool = False
) -> None:
    """Prune by `GroupMagnitudeImportance`, with one ratio of channels for all layers or one threshold for all.

    Args:
        model: becomes the slim network.
        images: one, to run it on.
        ratio: fraction of the channels to remove.
        classes: of the classifier, which stays whole.
        p: of the norm.
        shared: whether there is one threshold.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch_pruning as tp

        for parameter in model.parameters():
            parameter.requires_grad_(True)
        layers = [module for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
        last = [layer for layer in layers if len(layer.weight) == classes]  # a conv in some networks
        tp.pruner.BasePruner(
            model.eval(),
            images,
            importance=tp.importance.GroupMagnitudeImportance(p=p),
            pruning_ratio=ratio,
            ignored_layers=last[-1:],
            global_pruning=shared,
        ).step()


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:160]
