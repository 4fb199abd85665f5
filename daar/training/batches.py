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
from daar.training.recipe import Recipe


class Batches(Protocol):
    """The batches of a training, epoch by epoch; which image comes when follows from (seed, epoch) alone.

    Attributes:
        count: images of an epoch.
        steps: batches of an epoch.
    """

    count: int
    steps: int

    def epoch(self, epoch: int, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches from a step on: images (n, C, H, W) float32, normalised, and labels (n,), on the device."""


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


class PackedBatches:
    """See `Batches`. Every image comes once an epoch; a single one that would be left over is left out."""

    def __init__(self, data: Data, recipe: Recipe, seed: int, device: torch.device) -> None:
        self._recipe, self._seed, self._device = recipe, seed, device
        self._flip = recipe.flip and data.flip
        self._store = ImageStore(data.train.images, recipe.padding, data.mean, data.std, device)
        self._labels = data.train.labels.to(device)
        total = len(self._labels)
        if total < 2:
            raise InputError(f"training needs two images or more, got {total}. Check the dataset.")
        self.steps = math.ceil(total / recipe.batch_size)
        if total % recipe.batch_size == 1 and self.steps > 1:
            self.steps -= 1  # batch norm cannot be trained on a single image; another one is left out each epoch
        self.count = min(self.steps * recipe.batch_size, total)

    def epoch(self, epoch: int, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch, gathered on the device."""
        plan = draw(len(self._labels), self._recipe.padding, self._flip, self._seed, epoch, self._device)
        for step in range(first_step, self.steps):
            first, last = step * self._recipe.batch_size, min((step + 1) * self._recipe.batch_size, self.count)
            yield self._store.batch(plan, first, last), self._labels[plan.order[first:last]]
