"""ThiNet: what the next layer needs. Luo et al., "ThiNet: A Filter Level Pruning Method …", ICCV 2017."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from daar.api import Batch, MethodInfo, contributions

INFO = MethodInfo(
    name="thinet",
    title="ThiNet (Luo et al. 2017)",
    citation="luo2017thinet",
    uses=("weights", "images"),
    policy="uniform",
    deviations=(
        "all layers at once, then tuned; the paper prunes layer by layer, with one or two epochs of tuning after each",
        "the channels that stay are not rescaled by least squares, the paper's last step",
        "residual streams are pruned too at scope `all`, by all layers that read them; the paper leaves them",
    ),
)


def score(
    model: nn.Module, batch: Batch, layers: Sequence[str], *, places: int = 10, seed: int = 0
) -> dict[str, Tensor]:
    """The greedy choice: the channels T to remove that minimise Σ_i (Σ_{j ∈ T} x̂_ij)², found greedily.

    x̂_ij is what channel j adds to output i of the next layer, of which ten are drawn for each image. A channel's score
    is the step at which it joins T.

    Args:
        model: the dense network.
        batch: the calibration images.
        layers: paths of the convs to score.
        places: outputs drawn for each image.
        seed: the setting's, for the draw.

    Returns:
        layer → (c_out,) float32, CPU, from 0 to c_out − 1; higher = keep.
    """
    products = contributions(model, batch.images, layers, places=places, seed=seed)
    return {layer: _steps(gram) for layer, gram in products.items()}


def _steps(gram: Tensor) -> Tensor:
    """(c, c) sums of x̂_j x̂_k over the outputs, to (c,): when each channel is taken."""
    steps, cost = torch.zeros(len(gram)), gram.diagonal().clone()
    for step in range(len(gram)):
        taken = int(cost.argmin())  # ||Σ_T x̂ + x̂_j||² but for what is the same for all j
        steps[taken], cost[taken] = step, torch.inf
        cost += 2 * gram[taken]
    return steps
