"""What a training is fed with: batches of an epoch, and the images that it is watched on."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from daar.data.augmentation import ImageStore, draw
from daar.data.packed import Pack
from daar.errors import InputError
from daar.measure.accuracy import Accuracy, evaluate
from daar.training import distributed
from daar.training.recipe import Recipe


class Batches(Protocol):
    """The batches of a training, epoch by epoch; which image comes when follows from (seed, epoch) alone.

    Attributes:
        count: images of an epoch.
        steps: batches of an epoch.
    """

    count: int
    steps: int

    def size(self, step: int) -> int:
        """Images of a step's batch, those of all processes."""

    def epoch(self, epoch: int, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches from a step on: images (n, C, H, W) float32, normalised, and labels (n,), on the device.

        Of several processes each has its share of every batch.
        """


class TrainingData(Protocol):
    """What a network is trained on and watched on."""

    def batches(self, recipe: Recipe, seed: int, device: torch.device) -> Batches:
        """The train part, augmented as the recipe says."""

    def watch(self, model: nn.Module, device: torch.device, precision: str) -> Accuracy:
        """Accuracy on val, in a training's own precision: for the curve, not for a table."""


@dataclass(frozen=True)
class Data:
    """Packed images that fit on the device, with the normalisation the network is fed with."""

    train: Pack
    val: Pack
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool

    def batches(self, recipe: Recipe, seed: int, device: torch.device) -> "PackedBatches":
        """The train part, as uint8 on the device."""
        return PackedBatches(self, recipe, seed, device)

    def watch(self, model: nn.Module, device: torch.device, precision: str) -> Accuracy:
        """Accuracy on val."""
        return evaluate(model, self.val, self.mean, self.std, device, precision=precision)


class Steady:
    """What batches of every kind have in common: a size, and no single image left over.

    Every image comes once an epoch; a single one that would be left over is left out.

    Args:
        total: images of the train part.
        batch_size: of the recipe; of all processes.
    """

    def __init__(self, total: int, batch_size: int) -> None:
        if total < 2:
            raise InputError(f"training needs two images or more, got {total}. Check the dataset.")
        distributed.require_shares(batch_size)
        self._batch_size = batch_size
        self.steps = math.ceil(total / batch_size)
        if total % batch_size == 1 and self.steps > 1:
            self.steps -= 1  # batch norm cannot be trained on a single image; another one is left out each epoch
        self.count = min(self.steps * batch_size, total)

    def size(self, step: int) -> int:
        """See `Batches`."""
        return min(self._batch_size, self.count - step * self._batch_size)

    def mine(self, step: int) -> tuple[int, int]:
        """This process's images of a step, first and behind the last in the order of the epoch."""
        before = step * self._batch_size
        first, last = distributed.share(self.size(step))
        return before + first, before + last


class PackedBatches(Steady):
    """See `Batches`."""

    def __init__(self, data: Data, recipe: Recipe, seed: int, device: torch.device) -> None:
        super().__init__(len(data.train.labels), recipe.batch_size)
        self._recipe, self._seed, self._device = recipe, seed, device
        self._flip = recipe.flip and data.flip
        self._store = ImageStore(data.train.images, recipe.padding, data.mean, data.std, device)
        self._labels = data.train.labels.to(device)

    def epoch(self, epoch: int, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch, gathered on the device."""
        plan = draw(len(self._labels), self._recipe.padding, self._flip, self._seed, epoch, self._device)
        for step in range(first_step, self.steps):
            first, last = self.mine(step)
            yield self._store.batch(plan, first, last), self._labels[plan.order[first:last]]
