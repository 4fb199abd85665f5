"""Mixup and CutMix: batches of which each image is mixed with another one of the batch, and so are their labels.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, Eq. 1; Yun et al., "CutMix", ICCV 2019, Eq. 1.
Both are torchvision's.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from daar.device.randomness import derive
from daar.training.batch_protocol import Batches
from daar.training.recipe import Recipe


class Mixed:
    """`Batches` of mixed images; their labels are shares of the classes, (n, classes) float32.

    What a batch has, and by how much its images are mixed, follows from (seed, epoch, step) alone. With several
    processes, each mixes the images of its own share.

    Args:
        batches: not mixed, with labels (n,).
        recipe: gives α of either way; where it has both, each batch takes one of them, by an even chance.
        classes: number of classes.
        seed: of the training.
    """

    def __init__(self, batches: Batches, recipe: Recipe, classes: int, seed: int) -> None:
        self._batches, self._seed = batches, seed
        self.count, self.steps = batches.count, batches.steps
        self._ways = _ways(recipe, classes)

    def size(self, step: int) -> int:
        """See `Batches`."""
        return self._batches.size(step)

    def epoch(self, epoch: int, first_step: int) -> Iterator[tuple[Tensor, ...]]:
        """See `Batches`."""
        for step, drawn in enumerate(self._batches.epoch(epoch, first_step), first_step):
            yield self._mixed(*self._batches.make(*drawn), derive("mix", self._seed, epoch, step))

    def _mixed(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the generator of all
            torch.manual_seed(seed)
            way = self._ways[int(torch.randint(len(self._ways), ()))]
            mixed: tuple[Tensor, Tensor] = way(images, labels)
        return mixed

    def make(self, *drawn: Tensor) -> tuple[Tensor, Tensor]:
        """See `Batches`: they are mixed already."""
        images, labels = drawn
        return images, labels


def _ways(recipe: Recipe, classes: int) -> list[Callable[..., Any]]:
    from torchvision.transforms import v2  # loads for a second, and most recipes do not mix

    chosen = [(v2.MixUp, recipe.mixup), (v2.CutMix, recipe.cutmix)]
    return [kind(alpha=alpha, num_classes=classes) for kind, alpha in chosen if alpha > 0]
