"""APoZ: how seldom a channel fires. Hu et al., "Network Trimming: A Data-Driven Neuron Pruning Approach …", 2016."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from daar.api import Batch, MethodInfo, feature_maps

INFO = MethodInfo(
    name="apoz",
    title="APoZ (Hu et al. 2016)",
    citation="hu2016network",
    uses=("weights", "images"),
    policy="uniform",
    deviations=(
        "one-shot, then tuned; the paper trims a few layers and trains, again and again",
        "one ratio for all layers by default; the paper cuts at one standard deviation above a layer's mean APoZ",
        "behind the addition for the last conv of a residual block; the paper has no residual networks",
    ),
)


def score(model: nn.Module, batch: Batch, layers: Sequence[str]) -> dict[str, Tensor]:
    """APoZ_c = Σ_k Σ_j f(O_c,j(k) = 0) / (N M), over N images and M places; the score is 1 − APoZ_c.

    Args:
        model: the dense network.
        batch: the calibration images.
        layers: paths of the convs to score.

    Returns:
        layer → (c_out,) float32, CPU, from 0 to 1; higher = keep.
    """
    fired: dict[str, Tensor] = {}
    for layer, maps in feature_maps(model, batch.images, layers):
        part = (maps != 0).double().mean(dim=(2, 3)).sum(dim=0).cpu()
        fired[layer] = fired.get(layer, torch.zeros(())) + part
    return {layer: (total / len(batch)).float() for layer, total in fired.items()}
