"""The packed data set: one file per split, with the same bytes whatever source the images came from.

`<dir>/{train,val,test}.safetensors` hold images and labels in packed order; the header holds a description and a
SHA-256 over all of it. The source of the images is not in them but in `<dir>/source.json`, which names their checksums.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from torch import Tensor

from daar.data import normalisation, pack_files, readers, sources
from daar.data.datasets import Dataset, get
from daar.data.fingerprints import compare
from daar.data.pack_files import SOURCE, SPLITS, read_source, split_file
from daar.data.readers import Part
from daar.data.splits import Images, packed_order, split
from daar.errors import InputError
from daar.storage import tensors
from daar.storage.files import atomic, write_json

RESULT_NEUTRAL = "a pack carries its checksum, which results name"
FORMAT_VERSION = 1
# one key only: safetensors writes several in an order that changes from run to run
_HEADER = "daar_pack"
_AGAIN = "Make it again with `daar data prepare`."


@dataclass(frozen=True, eq=False)
class Pack:
    """One split of a data set.

    Attributes:
        images: (N, H, W, C) uint8.
        labels: (N,) int64.
        classes: class names, in label order.
        mean: per channel, of the train part, for pixels in 0..1.
        std: population standard deviation per channel, of the same pixels.
        dataset: short name.
        split: "train", "val" or "test".
        source: kind of source, and how it differs from the official release; for reports.
        checksum: SHA-256 over images, labels and all of the above but the source.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dataset: str
    split: str
    source: str
    checksum: str

    def pixels(self, index: Tensor) -> Tensor:
        """The images of an index (n,): (n, H, W, C) uint8."""
        return self.images[index]

    def batches(self, first: int, last: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The images from `first` to before `last` in batches: (n, H, W, C) uint8, and labels (n,)."""
        for start in range(first, last, size):
            part = slice(start, min(start + size, last))
            yield self.images[part], self.labels[part]


@dataclass(frozen=True)
class DatasetReport:
    """What `check` reports of a prepared data set.

    Attributes:
        dataset: short name.
        source: as in `source.json`: {"kind", "where", "note"}.
        comparison: how the images differ from the official release, computed again.
        counts: images per split and class.
        mean: per channel, of the train part.
        std: population standard deviation per channel, of the same pixels.
        checksums: SHA-256 per split.
    """

    dataset: str
    source: dict[str, str]
    comparison: str
    counts: dict[str, dict[str, int]]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    checksums: dict[str, str]


def prepare(
    dataset: Dataset, out: Path, *, data_root: Path | None = None, source: str = "auto", download: bool = False
) -> Path:
    """Find a data set, read it, check it and pack it.

    Args:
        dataset: which one.
        out: folder for the packed files.
        data_root: folder to look in; `sources` states the default.
        source: kind of source, or "auto" for the preferred one of those that are there.
        download: whether to download it with torchvision if it is not there.

    Returns:
        The folder of the packed files.

    Raises:
        InputError: it is not there, is not as it should be, or cannot be downloaded or written.
    """
    located = sources.locate(dataset, data_root, source)
    if located is None and download and "torchvision" in dataset.sources and source in ("auto", "torchvision"):
        located = readers.download(dataset, sources.places(dataset, data_root)[0])
    if located is None:
        raise sources.not_found(dataset, data_root)
    parts = _in_packed_order(readers.read(located, dataset))
    _require_every_class(parts, dataset, located.path)
    note = _compare(dataset, list(parts.values()))
    packed = _split(parts, dataset)
    mean, std = channel_statistics(packed["train"].images)
    normalisation.require(mean, std, dataset.shape[0], f"images of {located.path}")
    checksums = {}
    for name in SPLITS:
        about = {"dataset": dataset.name, "split": name, "classes": dataset.classes, "mean": mean, "std": std}
        checksums[name] = write_split(split_file(out, name), packed[name], about)
    write_json(
        Path(out) / SOURCE,
        {"kind": located.kind, "where": str(located.path), "note": note, "checksums": checksums},
    )
    return Path(out)


def load(path: Path) -> Pack:
    """Read one packed file and verify it.

    Args:
        path: `<dir>/{train,val,test}.safetensors`, with `<dir>/source.json` in the same folder.

    Raises:
        InputError: it is missing, damaged, no packed file, from a newer version, or not of that source.json.
    """
    path = Path(path)
    about, checksum, images, labels = _read(path)
    source = read_source(path.parent)
    if source["checksums"].get(about["split"]) != checksum:
        raise InputError(f"{path} and {path.parent / SOURCE} are not of one data set. {_AGAIN}")
    return Pack(
        images=images,
        labels=labels,
        classes=tuple(about["classes"]),
        mean=tuple(about["mean"]),
        std=tuple(about["std"]),
        dataset=about["dataset"],
        split=about["split"],
        source=f"{source['kind']}: {source['note']}",
        checksum=checksum,
    )


def check(folder: Path) -> DatasetReport:
    """Verify all splits of a packed data set and report what is in it.

    Raises:
        InputError: a file fails `load`, or the three are not the splits of one data set of ours.
    """
    packs = {name: load(split_file(folder, name)) for name in SPLITS}
    train = packs["train"]
    dataset = get(train.dataset)
    for name, pack in packs.items():
        same = (pack.dataset, pack.classes, pack.mean, pack.std) == (
            dataset.name,
            dataset.classes,
            train.mean,
            train.std,
        )
        if not same or pack.split != name or len(pack.labels) != dataset.splits[name]:
            raise InputError(
                f"{split_file(folder, name)} holds {len(pack.labels):,} images, {pack.split} of {pack.dataset}; "
                f"expected {dataset.splits[name]:,}, {name} of {dataset.name}. {_AGAIN}"
            )
    counts = {
        name: torch.bincount(pack.labels, minlength=len(dataset.classes)).tolist() for name, pack in packs.items()
    }
    source = read_source(Path(folder))
    return DatasetReport(
        dataset=dataset.name,
        source={key: source[key] for key in ("kind", "where", "note")},
        comparison=_compare(dataset, [Part(pack.images.numpy(), pack.labels.numpy()) for pack in packs.values()]),
        counts={name: dict(zip(dataset.classes, numbers, strict=True)) for name, numbers in counts.items()},
        mean=train.mean,
        std=train.std,
        checksums={name: pack.checksum for name, pack in packs.items()},
    )


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population standard deviation per channel, from exact integer sums.

    Args:
        images: (N, H, W, C) uint8.

    Returns:
        Mean and std, C values each, for pixels in 0..1.
    """
    pixels = images.size // images.shape[-1]
    means, stds = [], []
    for channel in range(images.shape[-1]):
        counts = np.zeros(256, dtype=np.int64)
        for start in range(0, len(images), 1_000):  # in blocks, since bincount makes eight bytes of every pixel
            counts += np.bincount(images[start : start + 1_000, ..., channel].ravel(), minlength=256)
        histogram = counts.tolist()
        total = sum(value * count for value, count in enumerate(histogram))
        squares = sum(value * value * count for value, count in enumerate(histogram))
        means.append(total / (255 * pixels))
        stds.append(math.sqrt(pixels * squares - total * total) / (255 * pixels))
    return tuple(means), tuple(stds)


def _in_packed_order(parts: dict[str, Part]) -> dict[str, Part]:
    orders = {name: packed_order(part.images, part.labels) for name, part in parts.items()}
    return {name: Part(part.images[orders[name]], part.labels[orders[name]]) for name, part in parts.items()}


def _require_every_class(parts: dict[str, Part], dataset: Dataset, where: Path | str) -> None:
    for name, part in parts.items():
        absent = sorted(set(range(len(dataset.classes))) - set(part.labels.tolist()))
        if absent:
            raise InputError(
                f"expected images of all {len(dataset.classes)} classes in the {name} part of {dataset.name}, got none "
                f"of {', '.join(dataset.classes[label] for label in absent)}. Replace {where} by a complete copy."
            )


def _split(parts: dict[str, Part], dataset: Dataset) -> dict[str, Part]:
    """Split official parts, in packed order, into train, val and test."""
    train = parts["train"]
    sizes = {"val": dataset.val} if "test" in parts else {"test": dataset.test, "val": dataset.val}
    masks = split(train.labels, len(dataset.classes), sizes)
    return parts | {name: Part(train.images[mask], train.labels[mask]) for name, mask in masks.items()}


def _compare(dataset: Dataset, parts: list[Part]) -> str:
    return compare(
        dataset, np.concatenate([part.images for part in parts]), np.concatenate([part.labels for part in parts])
    )


def write_split(path: Path, part: Part, about: dict[str, Any]) -> str:
    """Write one packed file, with what its header says of it; returns its checksum."""
    checksum = _checksum(about, part)
    header = json.dumps({"version": FORMAT_VERSION, "checksum": checksum, **about})
    content = safetensors.numpy.save({"images": part.images, "labels": part.labels}, {_HEADER: header})
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return checksum


def _checksum(about: dict[str, Any], part: Part) -> str:
    """SHA-256 over the description, the shape, the pixels and the labels."""
    hashed = hashlib.sha256(json.dumps([about, part.images.shape], sort_keys=True).encode())
    hashed.update(part.images.data)
    hashed.update(part.labels.data)
    return hashed.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], str, Tensor, Tensor]:
    """Read and verify one packed file: its description, checksum, images and labels."""
    stored, header = tensors.read(path, "packed images", _AGAIN, header=_HEADER)
    pack_files.require_header(header, path, FORMAT_VERSION)
    tensors.require(stored, {"images": ("uint8", (None,) * 4), "labels": ("int64", (None,))}, path, _AGAIN)
    images, labels = stored["images"], stored["labels"]
    checksum = header.pop("checksum")
    del header["version"]
    if _checksum(header, Part(images.numpy(), labels.numpy())) != checksum:
        raise InputError(f"{path} is damaged: its checksum does not fit its content. {_AGAIN}")
    _require_fitting(header, images, labels, path)
    return header, checksum, images, labels


def _require_fitting(about: dict[str, Any], images: Tensor, labels: Tensor, path: Path) -> None:
    """InputError where description, images and labels do not fit each other, as in a pack that others have made."""
    sizes = {"labels": len(labels), "images": len(images)}
    channels = {"mean": len(about["mean"]), "std": len(about["std"]), "images": images.shape[3]}
    for what, counts in (("images", sizes), ("channels", channels)):
        if len(set(counts.values())) > 1 or not all(counts.values()):
            said = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise InputError(f"{path} should have the same number of {what} throughout, but has {said}. {_AGAIN}")
    normalisation.require(about["mean"], about["std"], images.shape[3], str(path))
    if not all(images.shape):
        raise InputError(f"{path} should hold images, but they have the shape {tuple(images.shape)}. {_AGAIN}")
    pack_files.require_labels(int(labels.min()), int(labels.max()), len(about["classes"]), path)
