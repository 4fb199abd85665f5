"""Batches of images that are decoded from files during training."""

from collections.abc import Iterator

import torch
from torch import Tensor

from daar.data.decoding import Decoder, Work, workers
from daar.data.image_folder import ImageFolder
from daar.device.randomness import derive, generator
from daar.training.batch_sizes import BatchSizes
from daar.training.recipe import Recipe


class FolderBatches(BatchSizes):
    """`Batches` of images in files; crop and mirroring follow from (seed, epoch, image). `padding` is not used.

    Args:
        images: the train part.
        recipe: gives batch size and flip.
        seed: fixes order and augmentation.
        mean: the network's own mean per channel, of pixels in 0..1.
        std: the network's own standard deviation per channel, of pixels in 0..1.
        flip: whether a mirrored image is still one of its class.
        device: that batches are moved to.
    """

    def __init__(
        self,
        images: ImageFolder,
        recipe: Recipe,
        seed: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        flip: bool,
        device: torch.device,
    ) -> None:
        super().__init__(len(images.labels), recipe.batch_size)
        self._images, self._seed, self._device = images, seed, device
        self._scale = 1 / (255 * torch.tensor(std, device=device))
        self._shift = torch.tensor(mean, device=device) * 255 * self._scale
        on_gpu = device.type == "cuda"
        self._decoder = Decoder(images.root, images.size, recipe.flip and flip, workers(), pinned=on_gpu)

    def epoch(self, epoch: int, first_step: int) -> Iterator[tuple[Tensor, ...]]:
        """See `Batches`: images (n, H, W, C) uint8, and labels (n,), moved to the device."""
        order = torch.randperm(len(self._images.labels), generator=generator("epoch", self._seed, epoch))
        parts = [order[slice(*self.mine(step))] for step in range(first_step, self.steps)]
        for part, pixels in zip(parts, self._decoder(self._work(part, epoch) for part in parts), strict=True):
            labels = self._images.labels[part].to(self._device, non_blocking=True)
            yield pixels.to(self._device, non_blocking=True), labels

    def make(self, *drawn: Tensor) -> tuple[Tensor, Tensor]:
        """See `Batches`: normalised."""
        pixels, labels = drawn
        return (pixels * self._scale - self._shift).permute(0, 3, 1, 2), labels

    def _work(self, part: Tensor, epoch: int) -> Work:
        chosen = part.tolist()
        seeds = [derive("image", self._seed, epoch, image) for image in chosen]
        return Work([self._images.paths[image] for image in chosen], seeds)
