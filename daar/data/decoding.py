"""Decode image files into uint8 in worker processes; each image has a seed for its random crop and mirroring.

So neither the number of workers nor the step at which an epoch is continued changes a pixel. No GPU is used here.
"""

import contextlib
import functools
import multiprocessing
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from daar.errors import InputError
from daar.storage.documents import require_file, shown

WORKERS = "DAAR_WORKERS"
# shorter side over the side of the centre crop: 256 pixels for 224 (He et al. 2016, section 3.4)
_RESIZE = 256 / 224
# without those that run another program (EPS: Ghostscript)
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
# beginning of the message of torch's DataLoader when a worker has died
_DEAD = "DataLoader worker"
# `open_encoded` refuses what Pillow only warns of; here, since filters of a block hold for all threads
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Work:
    """A batch to decode.

    Attributes:
        paths: of the image files, relative to the root.
        seeds: one for each image, for its random crop and mirroring; None for centre crops.
    """

    paths: list[str]
    seeds: list[int] | None = None


def workers() -> int:
    """Number of worker processes: DAAR_WORKERS, else the threads of this process; 0 decodes in this one.

    Raises:
        InputError: DAAR_WORKERS is not a whole number.
    """
    text = os.environ.get(WORKERS) or str(torch.get_num_threads())
    if not re.fullmatch("[0-9]+", text):
        raise InputError(f"{WORKERS} must be a whole number of processes, 0 or more, got {text!r}.")
    return int(text)


def open_encoded(encoded: Path | BytesIO) -> Image.Image:
    """Open an image file, whatever its name says, by Pillow's own decoders; its pixels are not decoded yet.

    Raises:
        ValueError: it has more pixels than Pillow decodes without a warning, as a decompression bomb would.
        Exception: whatever Pillow raises.
    """
    image = Image.open(encoded, formats=FORMATS)
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        image.close()
        raise ValueError(f"it has {image.width:,} × {image.height:,} pixels, more than {Image.MAX_IMAGE_PIXELS:,}")
    return image


def cause(error: Exception) -> str:
    """Why an image cannot be decoded, as a clause, without a path or the address of a buffer."""
    if isinstance(error, UnidentifiedImageError):
        return "no known image format"
    return " ".join(str(error).split()).rstrip(".")


def open_image(path: Path) -> Image.Image:
    """Decode a whole image file, as RGB.

    Raises:
        InputError: it cannot be read or decoded.
    """
    require_file(path, "an image")
    try:
        with open_encoded(path) as image:
            return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise InputError(f"{shown(path)} should be an image, but it cannot be decoded: {cause(error)}") from error


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """The centre of an image, whose shorter side is first scaled to 256 / 224 of `size`."""
    from torchvision.transforms import functional as F

    return F.center_crop(F.resize(image, [round(size * _RESIZE)]), [size])  # type: ignore[no-any-return]  # torchvision is untyped


def random_crop(image: Image.Image, size: int, flip: bool, seed: int) -> Image.Image:
    """Torchvision's random crop, from a seed: 8 to 100 % of the area at 3:4 to 4:3, scaled to `size`; then mirroring.

    Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6.
    """
    from torchvision.transforms import RandomHorizontalFlip, RandomResizedCrop

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return RandomHorizontalFlip(0.5 if flip else 0.0)(RandomResizedCrop(size)(image))  # type: ignore[no-any-return]  # torchvision is untyped


class _Files(Dataset[tuple[Tensor, list[str]]]):
    """Decodes `Work` in a worker process."""

    def __init__(self, root: Path, size: int, flip: bool) -> None:
        self._root, self._size, self._flip = root, size, flip

    def __getitem__(self, work: Work) -> tuple[Tensor, list[str]]:
        """Images (n, H, W, C) uint8, and a message for each that cannot be decoded."""
        pixels = torch.empty((len(work.paths), self._size, self._size, 3), dtype=torch.uint8)
        faults = []
        for at, path in enumerate(work.paths):
            try:
                image = open_image(self._root / path)
            except InputError as error:  # returned as text: the loader would hide it in a traceback
                faults.append(str(error))
                continue
            cropped = (
                centre_crop(image, self._size)
                if work.seeds is None
                else random_crop(image, self._size, self._flip, work.seeds[at])
            )
            pixels[at] = torch.from_numpy(np.asarray(cropped).copy())
        return pixels, faults


class Decoder:
    """Decodes batches ahead of their use; its worker processes live as long as it does.

    Args:
        root: folder of the images.
        size: pixels of a side.
        flip: whether random crops are mirrored at random.
        count: of worker processes; 0 decodes in this one.
        pinned: whether batches are in pinned memory, for a GPU.
    """

    def __init__(self, root: Path, size: int, flip: bool, count: int, pinned: bool = False) -> None:
        self._current = _Current()
        self._loader = DataLoader(
            _Files(root, size, flip),
            batch_size=None,
            sampler=self._current,
            num_workers=count,
            multiprocessing_context=_context() if count else None,
            persistent_workers=count > 0,
            pin_memory=pinned,
        )

    def __call__(self, works: Iterable[Work]) -> Iterator[Tensor]:
        """Each batch as (n, H, W, C) uint8, in order.

        Raises:
            InputError: images cannot be decoded, or a worker died.
        """
        self._current.works = works
        try:
            for pixels, faults in self._loader:
                if faults:
                    raise InputError(_corrupt(faults, len(pixels)))
                yield pixels
        except RuntimeError as error:
            if not is_death(error):
                raise
            raise death() from error


class _Current:
    """The current work; the loader asks for it at each pass."""

    works: Iterable[Work] = ()

    def __iter__(self) -> Iterator[Work]:
        return iter(self.works)


@functools.cache
def _context() -> multiprocessing.context.BaseContext:
    """How workers start: not by a plain fork, which OpenMP's and NCCL's threads do not survive."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    with contextlib.suppress(AttributeError):
        context.set_forkserver_preload([__name__, "torchvision.transforms"])
    return context


def _corrupt(faults: list[str], count: int) -> str:
    more = f" (and {len(faults) - 1} more of this batch's {count:,})" if len(faults) > 1 else ""
    return (
        f"{faults[0].rstrip('.')}{more}. Replace it; or leave out whatever cannot be decoded: "
        "daar data prepare DATASET --skip-corrupt"
    )


def is_death(error: BaseException) -> bool:
    """Whether an error, which may be raised anywhere, says that a worker has died."""
    return isinstance(error, RuntimeError) and str(error).startswith(_DEAD)


def death() -> InputError:
    """The error for a worker that has died."""
    return InputError(
        "a process that decodes images has died; the system kills the largest when memory runs out. Run the same "
        f"command again with fewer of them: {WORKERS}={max(1, workers() // 2)}"
    )
