"""Dual attention: how large a share of its layer's attention each filter has.

A are the feature maps of one layer, (N, C, H, W), which arrive some images at a time. Shares are ≥ 0 and sum to 1 over
the channels, so that layers can be compared. Where a layer is dead, every channel has the share 1/C. NaN stays NaN.
Equations are numbered as in docs/method.md.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor


class Measure(Protocol):
    """The attention of one layer's filters."""

    def add(self, maps: Tensor) -> None:
        """Take in the maps of some images, (n, C, H, W)."""

    def shares(self) -> Tensor:
        """What all images that were taken in say, (C,) float64."""

    def of_images(self, maps: Tensor) -> Tensor:
        """What single images contribute, (n, C); the mean over all that were taken in is `shares`."""

    def places(self, maps: Tensor) -> Tensor | None:
        """Where the layer looks, (n, H, W), summing to 1 over the places; None where channels are compared instead."""


class Variation:
    """Eq. 2 and 3: the standard deviation over images and places of what a channel is squeezed to, as a share.

    Next to nothing is lost with a channel that is the same everywhere, for the BN that reads it takes up a constant.

    Args:
        squeezes: maps (n, C, H, W) → (n, C, places) float; of several the shares are averaged.
    """

    def __init__(self, *squeezes: Callable[[Tensor], Tensor]) -> None:
        self._parts = [(squeeze, Spread()) for squeeze in squeezes]

    def add(self, maps: Tensor) -> None:
        """Take in some images: their means and squares per channel are kept."""
        for squeeze, spread in self._parts:
            spread.add(squeeze(maps))

    def shares(self) -> Tensor:
        """Each channel's standard deviation over their sum, (C,)."""
        return torch.stack([share(spread.deviation()[None])[0] for _, spread in self._parts]).mean(dim=0)

    def of_images(self, maps: Tensor) -> Tensor:
        """(x − μ)² / σ, the mean over the places, over the sum of all σ, (n, C)."""
        return torch.stack([spread.parts(squeeze(maps)) for squeeze, spread in self._parts]).mean(dim=0)

    def places(self, maps: Tensor) -> Tensor | None:
        """(x − μ)² / σ, summed over the channels, as a share over the places; None where these are squeezed."""
        (squeeze, spread), *_ = self._parts
        if squeeze is not everywhere:
            return None
        return share(spread.excess(squeeze(maps)).sum(dim=1)).reshape(len(maps), *maps.shape[2:])


class Spread:
    """Mean and variance of each channel, one batch after the other (Chan, Golub & LeVeque 1983)."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = self._squares = torch.zeros(())  # of the deviations from the mean

    def add(self, values: Tensor) -> None:
        """Take in (n, C, places)."""
        count, mean = values.shape[0] * values.shape[2], values.mean(dim=(0, 2))
        squares = (values - mean[:, None]).square().sum(dim=(0, 2)).double()
        before, self._count = self._count, self._count + count
        shift = mean.double() - self._mean
        self._squares = self._squares + squares + shift.square() * (before * count / self._count)
        self._mean = self._mean + shift * (count / self._count)

    def deviation(self) -> Tensor:
        """The standard deviation of each channel, (C,) float64."""
        return (self._squares / self._count).sqrt()

    def excess(self, values: Tensor) -> Tensor:
        """(x − μ)² / σ, whose mean over all that was taken in is σ; 0 where σ is, (n, C, places) float64."""
        deviation = self.deviation()[:, None]
        squares = (values - self._mean[:, None]).square()
        return torch.where(deviation == 0, torch.zeros_like(squares), squares / deviation)

    def parts(self, values: Tensor) -> Tensor:
        """What each image contributes to the shares of σ, (n, C)."""
        total = self.deviation().sum()
        excess = self.excess(values).mean(dim=2)
        return torch.where(total == 0, torch.full_like(excess, 1 / excess.shape[1]), excess / total)


class Average:
    """The mean over the images of shares that each image has by itself; |A| is taken, A itself behind a ReLU.

    Args:
        of_images: maps → (n, C) shares.
        places: maps → (n, H, W), or None.
    """

    def __init__(self, of_images: Callable[[Tensor], Tensor], places: Callable[[Tensor], Tensor] | None = None) -> None:
        self.of_images, self._places = of_images, places
        self._sum, self._count = torch.zeros(()), 0

    def add(self, maps: Tensor) -> None:
        """Take in some images: the sum of their shares is kept."""
        shares = self.of_images(maps).sum(dim=0, dtype=torch.float64)
        self._sum, self._count = self._sum + shares, self._count + len(maps)

    def shares(self) -> Tensor:
        """The mean over the images, (C,)."""
        return self._sum / self._count

    def places(self, maps: Tensor) -> Tensor | None:
        """The attention map that the measure compares with, if it does."""
        return self._places(maps) if self._places else None


def everywhere(maps: Tensor) -> Tensor:
    """The maps as they are, (n, C, H·W)."""
    return maps.flatten(2)


def average_pool(maps: Tensor) -> Tensor:
    """CBAM's first squeeze, (n, C, 1)."""
    return maps.mean(dim=(2, 3)).unsqueeze(2)


def maximum_pool(maps: Tensor) -> Tensor:
    """CBAM's second squeeze, (n, C, 1)."""
    return maps.amax(dim=(2, 3)).unsqueeze(2)


def spatial_share(maps: Tensor) -> Tensor:
    """Eq. 4: Σ_hw A_c Q / Σ_hw Q², where Q = Σ_c A_c is the layer's attention map (Zagoruyko & Komodakis 2017, p = 1).

    The share of the average pool, plus how much a map rises where the whole layer does.

    Args:
        maps: (N, C, H, W).
    """
    rows = maps.abs().flatten(2)  # (N, C, HW)
    attention = rows.sum(dim=1, keepdim=True)  # (N, 1, HW)
    return share((rows @ attention.mT).squeeze(2))


def channel_share(maps: Tensor) -> Tensor:
    """Eq. 5: the mean of a channel's shares of the average pool and of the maximum pool: CBAM's two squeezes, no MLP.

    Args:
        maps: (N, C, H, W).
    """
    rows = maps.abs().flatten(2)
    return (share(rows.mean(dim=2)) + share(rows.amax(dim=2))) / 2


def spatial_consistency(maps: Tensor) -> Tensor:
    """Eq. 6: the cosine between a map and the layer's attention map Q, as a share; a stand-in for FPAC's consistency.

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
    """Eq. 7: what CBAM's spatial gate lets through, as a share: mean_hw σ(z) A_c with z = mean_c A + max_c A.

    The learned 7×7 convolution is replaced by the identity; z is standardised over the places, as CPSCA does.

    Args:
        maps: (N, C, H, W).
    """
    rows = maps.abs().flatten(2)
    gate = torch.sigmoid(_standardised(rows.mean(dim=1) + rows.amax(dim=1)))  # (N, HW)
    return share((rows @ gate.unsqueeze(2)).squeeze(2))


def channel_sigmoid(maps: Tensor) -> Tensor:
    """Eq. 8: CBAM's channel gate σ(z(avg pool) + z(max pool)), as a share, with a standardisation z for the MLP.

    Args:
        maps: (N, C, H, W).
    """
    rows = maps.abs().flatten(2)
    return share(torch.sigmoid(_standardised(rows.mean(dim=2)) + _standardised(rows.amax(dim=2))))


def attention_map(maps: Tensor) -> Tensor:
    """Where a layer looks: Q = Σ_c |A_c| of Eq. 4 and 6, as a share of its sum over the places, (N, H, W).

    Args:
        maps: (N, C, H, W).
    """
    total = maps.abs().sum(dim=1)
    return share(total.flatten(1)).view_as(total)


def gate_map(maps: Tensor) -> Tensor:
    """What the gate σ(z) of Eq. 7 lets through, as a share of its sum over the places, (N, H, W).

    Args:
        maps: (N, C, H, W).
    """
    rows = maps.abs().flatten(2)
    gate = torch.sigmoid(_standardised(rows.mean(dim=1) + rows.amax(dim=1)))
    return share(gate).reshape(len(maps), *maps.shape[2:])


def share(values: Tensor) -> Tensor:
    """Divide (N, C) ≥ 0 by its sum over the channels, or places; 1/C where that is zero, NaN where it is not finite."""
    total = values.sum(dim=1, keepdim=True)
    return torch.where(total == 0, torch.full_like(values, 1 / values.shape[1]), values / total)


def _standardised(values: Tensor) -> Tensor:
    """(N, K) with mean 0 and standard deviation 1 along K; zeros where all are equal."""
    centred = values - values.mean(dim=1, keepdim=True)
    spread = centred.square().mean(dim=1, keepdim=True).sqrt()
    return torch.where(spread == 0, torch.zeros_like(centred), centred / spread)


# score → the measure of shallow layers, that of deep ones; consistency knows no channel form
MEASURES: dict[str, tuple[Callable[[], Measure], Callable[[], Measure]]] = {
    "variation": (lambda: Variation(everywhere), lambda: Variation(average_pool, maximum_pool)),
    "share": (lambda: Average(spatial_share, attention_map), lambda: Average(channel_share)),
    "consistency": (lambda: Average(spatial_consistency, attention_map), lambda: Average(channel_share)),
    "cbam_sigmoid": (lambda: Average(spatial_sigmoid, gate_map), lambda: Average(channel_sigmoid)),
}
