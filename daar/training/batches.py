"""The data of a training: batches of an epoch, and the val images for its accuracy."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from daar.data.augmentation import Draw, ImageStore, draw
from daar.data.image_folder import ImageFolder
from daar.data.loading import Split
from daar.data.packed import Pack
from daar.measure.accuracy import Accuracy, evaluate
from daar.training.batch_protocol import Batches
from daar.training.batch_sizes import BatchSizes
from daar.training.folder_batches import FolderBatches
from daar.training.mixing import Mixed
from daar.training.recipe import Recipe


class TrainingData(Protocol):
    """What a network is trained on, and what its accuracy is watched on."""

    def batches(self, recipe: Recipe, seed: int, device: torch.device) -> Batches:
        """Batches of the train part, augmented by the recipe."""

    def watch(self, model: nn.Module, device: torch.device) -> Accuracy:
        """Accuracy on val, in strict float32 like all reported accuracy."""


Images = TypeVar("Images", bound=Split)


@dataclass(frozen=True)
class Data(Generic[Images]):
    """Images, packed or in a folder, and the normalisation of the network's input.

    Attributes:
        train: the train part.
        val: the val part.
        mean: per channel, of pixels in 0..1.
        std: standard deviation per channel, of pixels in 0..1.
        flip: whether a mirrored image is still one of its class.
    """

    train: Images
    val: Images
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    _moved: dict[torch.device, Split] = field(default_factory=dict, init=False, repr=False, compare=False)

    def batches(self, recipe: Recipe, seed: int, device: torch.device) -> Batches:
        """Batches of the train part: packed images live on the device as uint8, others are decoded when needed."""
        batches: Batches
        if isinstance(self.train, ImageFolder):
            batches = FolderBatches(self.train, recipe, seed, self.mean, self.std, self.flip, device)
        else:
            batches = PackedBatches(self.train, self, recipe, seed, device)
        mixes = recipe.mixup > 0 or recipe.cutmix > 0
        return Mixed(batches, recipe, len(self.train.classes), seed) if mixes else batches

    def watch(self, model: nn.Module, device: torch.device) -> Accuracy:
        """Accuracy on val."""
        return evaluate(model, self._val_on(device), self.mean, self.std, device)

    def _val_on(self, device: torch.device) -> Split:
        """The val part, moved to the device once, not at every epoch; images in a folder stay there."""
        if device not in self._moved:
            val = self.val
            if isinstance(val, Pack):
                val = replace(val, images=val.images.to(device), labels=val.labels.to(device))
            self._moved[device] = val
        return self._moved[device]


class PackedBatches(BatchSizes):
    """`Batches` of packed images, which live on the device."""

    def __init__(self, pack: Pack, data: Data[Any], recipe: Recipe, seed: int, device: torch.device) -> None:
        super().__init__(len(pack.labels), recipe.batch_size)
        self._recipe, self._seed, self._device = recipe, seed, device
        self._flip = recipe.flip and data.flip
        self._store = ImageStore(pack.images, recipe.padding, data.mean, data.std, device)
        self._labels = pack.labels.to(device)

    def epoch(self, epoch: int, first_step: int) -> Iterator[tuple[Tensor, ...]]:
        """See `Batches`."""
        plan = draw(len(self._labels), self._recipe.padding, self._flip, self._seed, epoch, self._device)
        for step in range(first_step, self.steps):
            yield (plan.rows[slice(*self.mine(step))],)

    def make(self, *drawn: Tensor) -> tuple[Tensor, Tensor]:
        """See `Batches`: gathered, cropped, mirrored and normalised on the device."""
        part = Draw(*drawn)
        return self._store.batch(part), self._labels[part.order]
