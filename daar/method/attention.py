"""Dual attention: how large a share of its layer's attention each filter has, on every image.

A are the feature maps of one layer, (N, C, H, W); |A| is taken, which is A itself behind a ReLU. Every measure gives
(N, C), ≥ 0, summing to 1 over the channels, so that layers can be compared. Where a layer is dead on an image, every
channel has the share 1/C. NaN stays NaN. Equations are numbered as in docs/method.md.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Measure = Callable[[Tensor], Tensor]


def spatial_share(maps: Tensor) -> Tensor:
    """Eq. 2: Σ_hw A_c Q / Σ_hw Q², where Q = Σ_c A_c is the layer's attention map (Zagoruyko & Komodakis 2017, p = 1).

    The share of the average pool, plus how much a map rises where the whole layer does.

    Args:
        maps: (N, C, H, W).
    """
    rows = maps.abs().flatten(2)  # (N, C, HW)
    attention = rows.sum(dim=1, keepdim=True)  # (N, 1, HW)
    return share((rows @ attention.mT).squeeze(2))


def channel_share(maps: Tensor) -> Tensor:
    """Eq. 3: the mean of a channel's shares of the average pool and of the maximum pool: CBAM's two squeezes, no MLP.

    Args:
        maps: (N, C, H, W).
    """
    rows = maps.abs().flatten(2)
    return (share(rows.mean(dim=2)) + share(rows.amax(dim=2))) / 2


def spatial_consistency(maps: Tensor) -> Tensor:
    """Eq. 4: the cosine between a map and the layer's attention map Q, as a share; a stand-in for FPAC's consistency.

    Args:
        maps: (N, C, H, W).
    """
    rows = maps.abs().flatten(2)
    attention = rows.sum(dim=1, keepdim=True)
    norms = rows.norm(dim=2) * attention.norm(dim=2)
    dots = (rows @ attention.mT).squeeze(2)
    # a dead channel agrees with nothing; NaN must not pass for one
    return share(torch.where(norms == 0, torch.zeros_like(dots), dots / norms))


def spatial_sigmoid(maps: Tensor) -> Tensor:
    """Eq. 5: what CBAM's spatial gate lets through, as a share: mean_hw σ(z) A_c with z = mean_c A + max_c A.

    The learned 7×7 convolution is replaced by the identity; z is standardised over the places, as CPSCA does.

    Args:
        maps: (N, C, H, W).
    """
    rows = maps.abs().flatten(2)
    gate = torch.sigmoid(_standardised(rows.mean(dim=1) + rows.amax(dim=1)))  # (N, HW)
    return share((rows @ gate.unsqueeze(2)).squeeze(2))


def channel_sigmoid(maps: Tensor) -> Tensor:
    """Eq. 6: CBAM's channel gate σ(z(avg pool) + z(max pool)), as a share, with a standardisation z for the MLP.

    Args:
        maps: (N, C, H, W).
    """
    rows = maps.abs().flatten(2)
    return share(torch.sigmoid(_standardised(rows.mean(dim=2)) + _standardised(rows.amax(dim=2))))


# score → (the measure of shallow layers, the measure of deep layers); consistency knows no channel form
MEASURES: dict[str, tuple[Measure, Measure]] = {
    "share": (spatial_share, channel_share),
    "consistency": (spatial_consistency, channel_share),
    "cbam_sigmoid": (spatial_sigmoid, channel_sigmoid),
}


def attention_map(maps: Tensor) -> Tensor:
    """Where a layer looks: Q = Σ_c |A_c| of Eq. 2 and 4, as a share of its sum over the places, (N, H, W).

    Args:
        maps: (N, C, H, W).
    """
    total = maps.abs().sum(dim=1)
    return share(total.flatten(1)).view_as(total)


def gate_map(maps: Tensor) -> Tensor:
    """What the gate σ(z) of Eq. 5 lets through, as a share of its sum over the places, (N, H, W).

    Args:
        maps: (N, C, H, W).
    """
    rows = maps.abs().flatten(2)
    gate = torch.sigmoid(_standardised(rows.mean(dim=1) + rows.amax(dim=1)))
    return share(gate).unflatten(1, maps.shape[2:])


# score → what its spatial measure weighs the places by
MAPS: dict[str, Measure] = {"share": attention_map, "consistency": attention_map, "cbam_sigmoid": gate_map}


def share(values: Tensor) -> Tensor:
    """Divide (N, C) ≥ 0 by its sum over the channels, or places; 1/C where that is zero, NaN where it is not finite."""
    total = values.sum(dim=1, keepdim=True)
    return torch.where(total == 0, torch.full_like(values, 1 / values.shape[1]), values / total)


def _standardised(values: Tensor) -> Tensor:
    """(N, K) with mean 0 and standard deviation 1 along K; zeros where all are equal."""
    centred = values - values.mean(dim=1, keepdim=True)
    spread = centred.square().mean(dim=1, keepdim=True).sqrt()
    return torch.where(spread == 0, torch.zeros_like(centred), centred / spread)
