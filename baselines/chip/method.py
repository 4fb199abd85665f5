"""CHIP: how far a channel's map depends on the others'. Sui et al., "CHIP: CHannel Independence-…", NeurIPS 2021."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from daar.api import Batch, MethodInfo, feature_maps

INFO = MethodInfo(
    name="chip",
    title="CHIP (Sui et al. 2021)",
    citation="sui2021chip",
    uses=("weights", "images"),
    policy="uniform",
    deviations=(
        "the suite's calibration images; the authors' code draws augmented ones, and rounds maps to four digits",
        "one ratio for all layers by default; the paper sets ratios by hand",
    ),
)
# ln t of the quadrature, t over an image's largest singular value; within 1e-7 of the integral
_NODES = torch.arange(-20, 20, 0.4, dtype=torch.float64)


def score(model: nn.Module, batch: Batch, layers: Sequence[str]) -> dict[str, Tensor]:
    """Channel independence: CI(A_i) = ||A||_* − ||M_i ⊙ A||_*, averaged over the images.

    A (c_out, H·W) holds an image's feature maps as rows, M_i zeroes row i, ||·||_* is the nuclear norm.

    Args:
        model: the dense network.
        batch: the calibration images.
        layers: paths of the convs to score.

    Returns:
        layer → (c_out,) float32, CPU; higher = keep.
    """
    sums: dict[str, Tensor] = {}
    for layer, maps in feature_maps(model, batch.images, layers):
        part = _independence(maps.flatten(2).double()).sum(dim=0).cpu()
        sums[layer] = sums.get(layer, torch.zeros(())) + part
    return {layer: (total / len(batch)).float() for layer, total in sums.items()}


def _independence(maps: Tensor) -> Tensor:
    """(n, c, p) to (n, c): all changes of the nuclear norm from one eigendecomposition per image.

    Without row a, AᵀA is AᵀA − aᵀa. By tr √G = 2/π ∫ tr G(G + t²)⁻¹ dt and Sherman and Morrison's formula the norm
    falls by −1/π ∫ ln(1 − q(t)) dt over t > 0, with q(t) = a (AᵀA + t²)⁻¹ aᵀ.
    """
    wide = maps.shape[1] <= maps.shape[2]
    squares, vectors = torch.linalg.eigh(maps @ maps.mT if wide else maps.mT @ maps)
    squares = squares.clamp(min=0)  # of singular values
    shares = vectors.square() * squares[:, None] if wide else (maps @ vectors).square()
    t = squares.amax(dim=1, keepdim=True).sqrt().clamp(min=1e-100) * _NODES.exp().to(maps.device)
    q = shares @ (squares[:, :, None] + t.square()[:, None]).reciprocal()
    areas: Tensor = -torch.log1p(-q.clamp(max=1 - 1e-16)) * t[:, None]
    return areas.sum(dim=2) * (float(_NODES[1] - _NODES[0]) / math.pi)
