"""CP: channels that a LASSO regression keeps. He et al., "Channel Pruning for Accelerating Very Deep …", ICCV 2017."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from daar.api import Batch, MethodInfo, contributions

INFO = MethodInfo(
    name="cp",
    title="CP (He et al. 2017)",
    citation="he2017channel",
    uses=("weights", "images"),
    policy="uniform",
    deviations=(
        "all layers at once, then tuned; the paper goes layer by layer, each with the errors of those before",
        "the next layer's weights are not fitted again by least squares (the paper's second step)",
        "a channel's score is the penalty at which it enters; the paper raises the penalty until few enough are left",
        "residual streams are pruned too at scope `all`, by all layers that read them; the paper samples them",
    ),
)


def score(
    model: nn.Module, batch: Batch, layers: Sequence[str], *, places: int = 10, seed: int = 0
) -> dict[str, Tensor]:
    """LASSO: min_β ½ ||Y − Σ_j β_j X_j W_jᵀ||² + λ ||β||₁; the score is the largest λ at which β_j is not zero.

    X_j W_jᵀ is what channel j adds to the outputs of the next layer, Y the sum over all channels. λ falls from the
    smallest at which all β are zero, which counts as 1; channels that enter at none are worth 0.

    Args:
        model: the dense network.
        batch: the calibration images.
        layers: paths of the convs to score.
        places: outputs drawn for each image.
        seed: the setting's, for the draw.

    Returns:
        layer → (c_out,) float32, CPU; higher = keep.
    """
    products = contributions(model, batch.images, layers, places=places, seed=seed)
    return {layer: _entries(gram.numpy()) for layer, gram in products.items()}


def _entries(gram: np.ndarray[Any, Any]) -> Tensor:
    """(c, c) sums of x̂_j x̂_k over the outputs, to (c,): λ at which each enters, over the largest.

    By following the solution as λ falls: it is linear until a channel joins those with β ≠ 0, or leaves them.
    """
    left = gram.sum(axis=1)  # products of each channel with the residual; of those with β ≠ 0, ± λ
    entered, beta = np.zeros_like(left), np.zeros_like(left)
    penalty = largest = np.abs(left).max()
    active: list[int] = []
    joins = int(np.abs(left).argmax())
    while penalty > 1e-9 * largest:
        if joins in active:
            active.remove(joins)
            beta[joins] = 0
        else:
            active.append(joins)
            entered[joins] = max(entered[joins], penalty / largest)
        slope = np.linalg.lstsq(gram[np.ix_(active, active)], np.sign(left[active]), rcond=1e-12)[0]
        change = gram[:, active] @ slope
        with np.errstate(divide="ignore", invalid="ignore"):
            ahead = np.stack(((penalty - left) / (1 - change), (penalty + left) / (1 + change)))
            ahead[:, active] = np.stack((-beta[active] / slope, np.full(len(active), np.inf)))
        ahead = np.where(ahead > 1e-12 * largest, ahead, np.inf).min(axis=0)
        joins, step = int(ahead.argmin()), min(float(ahead.min()), penalty)
        beta[active] += step * slope
        left, penalty = left - step * change, penalty - step
    return torch.from_numpy(entered).float()
