"""HRank: mean rank of a filter's feature maps. Lin et al., "HRank: Filter Pruning using High-Rank …", CVPR 2020."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from daar.api import Batch, MethodInfo, feature_maps

INFO = MethodInfo(
    name="hrank",
    title="HRank (Lin et al. 2020)",
    citation="lin2020hrank",
    uses=("weights", "images"),
    policy="uniform",
    deviations=(
        "one-shot, then tuned once, as the authors' HRankPlus; the paper prunes and tunes layer by layer",
        "the suite's calibration images; the authors' code draws new augmented ones for every layer",
        "one ratio for all layers by default; the paper sets ratios by hand",
    ),
)


def score(model: nn.Module, batch: Batch, layers: Sequence[str]) -> dict[str, Tensor]:
    """The rank of each feature map, averaged over the images.

    Maps are taken where the authors' code hooks them: after BN and ReLU, for the last conv of a residual block after
    the addition. Rank is torch.linalg.matrix_rank's with its default tolerance, in float32.

    Args:
        model: the dense network.
        batch: the calibration images.
        layers: paths of the convs to score.

    Returns:
        layer → (c_out,) float32, CPU, from 0 to min(H, W); higher = keep.
    """
    sums: dict[str, Tensor] = {}
    for layer, maps in feature_maps(model, batch.images, layers):
        ranks = torch.linalg.matrix_rank(maps.float().contiguous()).sum(dim=0, dtype=torch.float64)
        sums[layer] = sums.get(layer, torch.zeros_like(ranks)) + ranks
    return {layer: (total / len(batch)).float().cpu() for layer, total in sums.items()}
