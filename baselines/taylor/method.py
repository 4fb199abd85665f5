"""Taylor: first-order change of the loss. Molchanov et al., "Importance Estimation for Neural Network …", CVPR 2019."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from daar.api import Batch, MethodInfo, filter_gradients, map_gradients

INFO = MethodInfo(
    name="taylor",
    title="Taylor (Molchanov et al. 2019)",
    citation="molchanov2019importance",
    uses=("weights", "images", "labels"),
    policy="uniform",
    deviations=(
        "one-shot in eval mode, then tuned; the paper removes some filters every few minibatches while it trains",
        "one ratio for all layers by default; the paper ranks the filters of all layers together",
        "each conv of a residual stream is scored and the shares are averaged; the paper gives a stream one gate",
    ),
)


def score(
    model: nn.Module,
    batch: Batch,
    layers: Sequence[str],
    *,
    form: Literal["weights", "gate"] = "weights",
    batch_size: int = 128,
) -> dict[str, Tensor]:
    """First order: of a filter S, Σ_{s ∈ S} (g_s w_s)², g the gradient of a minibatch's loss, summed over minibatches.

    `gate` has (g_z z)² in its place, of a gate z = 1 that multiplies the filter's channel behind its BN: g_z is the sum
    of activation times gradient. In the authors' code these are methods 0 (Taylor_weight) and 22 (Taylor_gate).

    Args:
        model: the dense network.
        batch: the calibration images and their labels.
        layers: paths of the convs to score.
        form: of the paper's two.
        batch_size: images of a minibatch.

    Returns:
        layer → (c_out,) float32, CPU; higher = keep.
    """
    if form == "weights":
        stream = filter_gradients(model, batch, layers, batch_size)
        parts = ((layer, (w * g).square().sum(dim=(1, 2, 3))) for layer, w, g in stream)
    else:
        behind = map_gradients(model, batch, layers, batch_size, at="norms")
        parts = ((layer, (a * g).sum(dim=(2, 3)).mean(dim=0).square().cpu()) for layer, a, g in behind)
    sums: dict[str, Tensor] = {}
    for layer, part in parts:
        sums[layer] = sums.get(layer, torch.zeros(())) + part.double()
    return {layer: total.float() for layer, total in sums.items()}
