"""Crop and flip a whole batch at once, from uint8 images on the device."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from daar.device.randomness import generator


@dataclass(frozen=True)
class Draw:
    """Order and augmentation of one epoch: int64 (N,), `mirrored` bool (N,), all in the order of use.

    Attributes:
        order: index of the image.
        top: first row of its crop in the padded image.
        left: first column of its crop.
        mirrored: whether it is mirrored left to right.
    """

    order: Tensor
    top: Tensor
    left: Tensor
    mirrored: Tensor


def draw(count: int, padding: int, flip: bool, seed: int, epoch: int, device: torch.device) -> Draw:
    """Draw an epoch: a permutation, and a crop and a flip for each of `count` images, from (seed, epoch) alone."""
    dice = generator("epoch", seed, epoch)
    order = torch.randperm(count, generator=dice)
    top, left = torch.randint(2 * padding + 1, (2, count), generator=dice)
    mirrored = torch.rand(count, generator=dice) < (0.5 if flip else 0.0)
    return Draw(*(values.to(device) for values in (order, top, left, mirrored)))


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

    def batch(self, epoch: Draw, start: int, stop: int) -> Tensor:
        """Images `start` to `stop` of an epoch: (n, C, H, W) float32, normalised, in channels_last memory."""
        part = slice(start, stop)
        columns = torch.where(epoch.mirrored[part, None], self._columns.flip(0), self._columns) + epoch.left[part, None]
        rows = self._rows + epoch.top[part, None]
        pixels = self._images[epoch.order[part, None, None], rows[:, :, None], columns[:, None, :]]
        return (pixels * self._scale - self._shift).permute(0, 3, 1, 2)
