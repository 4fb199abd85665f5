"""A batch that does not fit: the error names one that does."""

import pytest
import torch
from torch import Tensor, nn

from benchmarks.training import random_pack
from daar.errors import InputError
from daar.training.batches import Data
from daar.training.engine import fit
from daar.training.recipe import Recipe


class Hungry(nn.Module):
    """A network that has memory for a given number of images."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room, self.linear = room, nn.Linear(3 * 32 * 32, 10)

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self._room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has …")
        return self.linear(images.flatten(1))


def train(room: int, batch_size: int) -> None:
    pack = random_pack(200, "train")
    recipe = Recipe(epochs=1, batch_size=batch_size, precision="float32")
    data = Data(pack, pack, pack.mean, pack.std, flip=True)
    fit(Hungry(room), data, recipe, 0, torch.device("cpu"), say=lambda _: None)


@pytest.mark.parametrize(
    ("room", "batch_size", "fits"), [(99, 128, 64), (64, 128, 64), (63, 128, 32), (3, 100, 3), (40, 512, 25)]
)
def test_says_which_batch_fits(room: int, batch_size: int, fits: int) -> None:
    # of 512 images a batch there are 200; 200, 100, 50, 25
    with pytest.raises(InputError, match=rf"^out of memory: a batch of \d+ images .* one of {fits} does") as told:
        train(room, batch_size)
    assert f"batch_size to {fits} or less" in str(told.value)
    assert "GPU 0" not in str(told.value)  # one line


def test_says_so_where_nothing_fits() -> None:
    with pytest.raises(InputError, match="nor does any smaller one"):
        train(0, 64)


def test_other_errors_pass() -> None:
    class Broken(Hungry):
        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError(f"shapes do not match: {images.shape}")

    pack = random_pack(20, "train")
    with pytest.raises(RuntimeError, match="shapes do not match"):
        fit(
            Broken(9),
            Data(pack, pack, pack.mean, pack.std, flip=True),
            Recipe(epochs=1, batch_size=8),
            0,
            torch.device("cpu"),
        )
