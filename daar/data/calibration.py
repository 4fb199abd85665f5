"""The calibration images, on which all data-driven methods score: the same for each of them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from daar.data.loading import Split
from daar.device.randomness import generator
from daar.errors import InputError


def calibration_indices(dataset_name: str, seed: int, n: int, train_size: int) -> Tensor:
    """The first n indices of a permutation of the train part, which depends on data set and seed alone.

    Args:
        dataset_name: short name of the data set.
        seed: the setting's seed.
        n: how many images.
        train_size: images in the train part.

    Returns:
        (n,) int64 indices into the train part. Those of a smaller n begin those of a larger one.

    Raises:
        InputError: n is not from 1 to train_size.
    """
    if not 1 <= n <= train_size:
        raise InputError(
            f"calibration images should number from 1 to {train_size:,}, the train part of {dataset_name}, "
            f"but {n:,} were asked for. Ask for fewer."
        )
    return torch.randperm(train_size, generator=generator("calibration", dataset_name, seed))[:n]


def calibration_batch(
    pack: Split, seed: int, n: int, mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """The calibration images of a train part, unaugmented, normalised for a network.

    Args:
        pack: the train part.
        seed: the setting's seed.
        n: how many images.
        mean: the network's own mean per channel, for pixels in 0..1.
        std: the network's own standard deviation per channel, for pixels in 0..1.

    Returns:
        Images (n, C, H, W) float32, normalised, and labels (n,) int64.

    Raises:
        InputError: n is larger than the train part, or `pack` is not one.
    """
    if pack.split != "train":
        raise InputError(
            f"calibration images come from the train part, but this is {pack.split}. Give train.safetensors."
        )
    index = calibration_indices(pack.dataset, seed, n, len(pack.labels))
    images = pack.pixels(index).permute(0, 3, 1, 2).to(torch.float32) / 255
    shift, scale = (torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1) for values in (mean, std))
    return ((images - shift) / scale).contiguous(), pack.labels[index]
