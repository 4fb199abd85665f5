"""Where shallow layers end and deep ones begin."""

import math

import torch
from torch import Tensor

from daar.api import InputError


def by_side(areas: dict[str, int]) -> set[str]:
    """Eq. 9: a layer is shallow if its maps' side is at least √(S_first · S_last).

    CIFAR ResNets: 32 and 16 are shallow, 8 is deep.

    Args:
        areas: layer → H·W of its maps, in the order of execution.

    Returns:
        The shallow layers.
    """
    sizes = list(areas.values())
    # areas instead of sides: S ≥ √(S₁S₂) ⇔ S⁴ ≥ S₁²S₂², in integers
    return {layer for layer, area in areas.items() if area * area >= sizes[0] * sizes[-1]}


def by_depth(areas: dict[str, int], fraction: float) -> set[str]:
    """The first layers in the order of execution, a given fraction of all of them, rounded half up.

    Raises:
        InputError: it is no fraction.
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"boundary is {fraction}; as a fraction of the layers it must lie from 0 to 1.")
    count = math.floor(fraction * len(areas) + 0.5)
    return set(list(areas)[:count])


def by_classes(separation: dict[str, float]) -> set[str]:
    """Eq. 10: the split of the layers into two runs, in depth, with the least squared error of η² about their means.

    Args:
        separation: layer → η², in the order of execution; see `eta_squared`.

    Returns:
        The layers of the first run; at least one layer is in each.
    """
    values = list(separation.values())

    def error(part: list[float]) -> float:
        mean = math.fsum(part) / len(part)
        return math.fsum((value - mean) ** 2 for value in part)

    first = min(range(1, len(values)), key=lambda at: error(values[:at]) + error(values[at:]), default=len(values))
    return set(list(separation)[:first])


def eta_squared(pooled: Tensor, labels: Tensor) -> float:
    """How well classes are told apart by channels: between-class over total variance, the mean over live channels.

    Args:
        pooled: (N, C) average-pooled maps of the calibration images.
        labels: (N,) int64.

    Returns:
        From 0 to 1; 0 where no channel varies.
    """
    pooled = pooled.double()
    centred = pooled - pooled.mean(dim=0)
    total = centred.square().sum(dim=0)
    classes, index = torch.unique(labels, return_inverse=True)
    sums = torch.zeros(len(classes), pooled.shape[1], dtype=torch.float64, device=pooled.device)
    sums.index_add_(0, index, centred)
    between = (sums.square() / index.bincount().unsqueeze(1)).sum(dim=0)
    live = total > 0
    return float((between[live] / total[live]).mean()) if bool(live.any()) else 0.0
