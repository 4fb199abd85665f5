"""Crop and flip a whole batch at once, from uint8 images on the device."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from daar.device.randomness import generator


@dataclass(frozen=True)
class Draw:
    """Order and augmentation of one epoch, in the order of use.

    Attributes:
        rows: (N, 4) int64: what the properties give, a row for each image.
    """

    rows: Tensor

    @property
    def order(self) -> Tensor:
        """Index of the image, (N,)."""
        return self.rows[:, 0]

    @property
    def top(self) -> Tensor:
        """First row of its crop in the padded image, (N,)."""
        return self.rows[:, 1]

    @property
    def left(self) -> Tensor:
        """First column of its crop, (N,)."""
        return self.rows[:, 2]

    @property
    def mirrored(self) -> Tensor:
        """Whether it is mirrored left to right, bool (N,)."""
        return self.rows[:, 3] > 0


def draw(count: int, padding: int, flip: bool, seed: int, epoch: int, device: torch.device) -> Draw:
    """Draw an epoch: a permutation, and a crop and a flip for each of `count` images, from (seed, epoch) alone."""
    dice = generator("epoch", seed, epoch)
    order = torch.randperm(count, generator=dice)
    top, left = torch.randint(2 * padding + 1, (2, count), generator=dice)
    mirrored = torch.rand(count, generator=dice) < (0.5 if flip else 0.0)
    return Draw(torch.stack((order, top, left, mirrored), 1).to(device))


class ImageStore:
    """The images of a split on the device, zero-padded once; makes batches of them.

    Args:
        images: (N, H, W, C) uint8.
        padding: black pixels on each side, for the crop.
        mean: per channel, of pixels in 0..1.
        std: per channel, of pixels in 0..1.
        device: that holds them.
    """

    def __init__(
        self, images: Tensor, padding: int, mean: Sequence[float], std: Sequence[float], device: torch.device
    ) -> None:
        self._height, self._width = images.shape[1:3]
        self._images = F.pad(images, (0, 0, padding, padding, padding, padding)).to(device)
        deviation = torch.tensor(std, device=device)
        # (x / 255 − mean) / std as one multiply and one add
        self._scale = 1 / (255 * deviation)
        self._shift = torch.tensor(mean, device=device) / deviation
        self._rows = torch.arange(self._height, device=device)
        self._columns = torch.arange(self._width, device=device)

    def batch(self, drawn: Draw) -> Tensor:
        """The images of a part of an epoch: (n, C, H, W) float32, normalised, in channels_last memory."""
        columns = torch.where(drawn.mirrored[:, None], self._columns.flip(0), self._columns) + drawn.left[:, None]
        rows = self._rows + drawn.top[:, None]
        pixels = self._images[drawn.order[:, None, None], rows[:, :, None], columns[:, None, :]]
        return (pixels * self._scale - self._shift).permute(0, 3, 1, 2)
