"""Folders of small images that tests make."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 8


def picture(seed: int, height: int = SIZE, width: int = SIZE) -> Image.Image:
    """Noise, RGB."""
    dice = np.random.default_rng(seed)
    return Image.fromarray(dice.integers(0, 256, (height, width, 3), dtype=np.uint8))


def fill(root: Path, classes: dict[str, int], first: int = 0) -> Path:
    """A folder for each class, with a number of images; `first` is the seed of the first image."""
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            picture(first).save(root / name / f"{index}.png")
            first += 1
    return root
