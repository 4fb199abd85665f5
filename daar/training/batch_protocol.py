"""What a training asks of whatever makes its batches."""

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor


class Batches(Protocol):
    """The batches of a training, epoch by epoch; which image comes when follows from (seed, epoch) alone.

    Attributes:
        count: images of an epoch.
        steps: batches of an epoch.
    """

    count: int
    steps: int

    def size(self, step: int) -> int:
        """Images of a step's batch, summed over the processes."""

    def epoch(self, epoch: int, first_step: int) -> Iterator[tuple[Tensor, ...]]:
        """What `make` needs for each batch from a step on: tensors on the device whose first dimension is the images'.

        With several processes each gets its share of every batch.
        """

    def make(self, *drawn: Tensor) -> tuple[Tensor, Tensor]:
        """A batch: images (n, C, H, W) float32, normalised, and labels (n,), or (n, classes) where they are mixed.

        On the device alone, so that a CUDA graph of a step contains it.
        """
