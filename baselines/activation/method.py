"""Activation: mean or standard deviation of a channel. Molchanov et al., "Pruning Convolutional …", ICLR 2017."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from daar.api import Batch, MethodInfo, feature_maps

INFO = MethodInfo(
    name="activation",
    title="activation (Molchanov et al. 2017)",
    citation="molchanov2017pruning",
    uses=("weights", "images"),
    policy="uniform",
    deviations=(
        "one-shot, then tuned; the paper removes one filter at a time while it trains",
        "one ratio for all layers by default; the paper ranks all filters together, each layer's scores normalised",
    ),
)


def score(
    model: nn.Module, batch: Batch, layers: Sequence[str], *, statistic: Literal["mean", "std"] = "mean"
) -> dict[str, Tensor]:
    """The criterion "activation": Θ_MA(a) = 1/|a| Σ_i a_i, over images and places; or their standard deviation.

    Behind ReLU, as feature maps are. The paper compares both with its Taylor criterion; Polyak and Wolf (2015) prune by
    the variance.

    Args:
        model: the dense network.
        batch: the calibration images.
        layers: paths of the convs to score.
        statistic: of the two.

    Returns:
        layer → (c_out,) float32, CPU; higher = keep.
    """
    sums: dict[str, Tensor] = {}
    for layer, maps in feature_maps(model, batch.images, layers):
        values = maps.double()
        moments = torch.stack((values, values.square())).mean(dim=(3, 4)).sum(dim=1).cpu()
        sums[layer] = sums.get(layer, torch.zeros(())) + moments / len(batch)
    if statistic == "mean":
        return {layer: mean.float() for layer, (mean, _) in sums.items()}
    return {layer: (square - mean.square()).clamp(min=0).sqrt().float() for layer, (mean, square) in sums.items()}
