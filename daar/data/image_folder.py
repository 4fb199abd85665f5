"""A data set whose images stay in their folder: an index of the files instead of packed pixels.

`<root>/train/<class>/*` and `<root>/val/<class>/*`, as ImageNet is unpacked. `<dir>/{train,val,test}.safetensors` hold
each image's path relative to the root, its label and its size in bytes; `<dir>/source.json` names the root. Test is
the official validation part. Val is held out of the official train part: of each class the first 50 images by the
SHA-256 of their path (`train/n01440764/n01440764_18.JPEG`), or a tenth of a class with fewer than 500. Labels are the
places of the classes' names in alphabetical order, as in published ImageNet weights.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import torch
from torch import Tensor

from daar.data import folder_scan
from daar.data.datasets import Dataset
from daar.data.decoding import Decoder, Work, open_image, workers
from daar.data.folder_scan import PARTS, File, listed, scan, text_of
from daar.data.pack_files import SOURCE, read_source, require_header, require_labels, split_file
from daar.errors import InputError
from daar.storage import tensors
from daar.storage.documents import require_file, shown
from daar.storage.files import atomic, write_json

# 1 separated paths by newlines, which names may hold
FORMAT_VERSION = 2
_SEPARATORS = {1: "\n", 2: "\0"}
HEADER = "daar_image_folder"
VAL_PER_CLASS = 50
# what published ImageNet weights normalise by
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# no part of it leads out of the folder
_PLAIN = re.compile(r"(train|val)/(?!\.{1,2}/)[^/\0]+/(?!\.{1,2}\Z)[^/\0]+")
_AGAIN = "Make it again with `daar data prepare`."
# batch size outside training: these images are large
_AT_ONCE = 64
_VERIFIED_AT_ONCE = 10_000


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """One split of images in files; has the interface of `Pack`.

    Attributes:
        root: folder that paths are relative to.
        paths: of the N images.
        labels: (N,) int64.
        size: height and width of the images that a network reads, in pixels.
        classes: class names, in label order.
        mean: ImageNet's, per channel, for pixels in 0..1.
        std: ImageNet's, per channel, for pixels in 0..1.
        dataset: short name.
        split: "train", "val" or "test".
        source: kind of source, and how it differs from the official release; for reports.
        checksum: SHA-256 over paths, labels, sizes in bytes and all of the above but root and source.
    """

    root: Path
    paths: tuple[str, ...]
    labels: Tensor
    size: int
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dataset: str
    split: str
    source: str
    checksum: str

    def pixels(self, index: Tensor) -> Tensor:
        """The images of an index (n,), centre-cropped: (n, H, W, C) uint8."""
        chosen = index.tolist()
        return torch.cat(list(self._decoded([chosen[at : at + _AT_ONCE] for at in range(0, len(chosen), _AT_ONCE)])))

    def batches(self, first: int, last: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The images from `first` to before `last`, centre-cropped, in order, in batches of at most `size`."""
        step = min(size, _AT_ONCE)
        parts = [list(range(start, min(start + step, last))) for start in range(first, last, step)]
        for part, pixels in zip(parts, self._decoded(parts), strict=True):
            yield pixels, self.labels[part[0] : part[-1] + 1]

    def _decoded(self, parts: list[list[int]]) -> Iterator[Tensor]:
        # decoding a single batch takes less time than starting a worker
        count = min(workers(), len(parts)) if len(parts) > 1 else 0
        yield from Decoder(self.root, self.size, False, count)(Work([self.paths[at] for at in p]) for p in parts)


def prepare(dataset: Dataset, root: Path, out: Path, *, verify: bool = False, skip_corrupt: bool = False) -> Path:
    """Scan a folder of images and write its index.

    Args:
        dataset: which one; a folder of other classes is accepted, and the difference noted.
        root: folder with `train/` and `val/`.
        out: folder for the index.
        verify: whether to decode every file, which takes about as long as an epoch.
        skip_corrupt: leave images that cannot be decoded out of the index and note them, instead of refusing the
            folder; implies `verify`.

    Returns:
        The folder of the index.

    Raises:
        InputError: a class is absent or empty, a folder cannot be read, images cannot be decoded, or the index cannot
            be written.
    """
    _require_utf8(root)
    classes = folder_scan.classes(root)
    files = {part: list(scan(root, part, classes)) for part in PARTS}
    faults = _faults(root, [file for part in PARTS for file in files[part]], verify or skip_corrupt)
    if faults and not skip_corrupt:
        raise InputError(
            f"{len(faults):,} of {sum(map(len, files.values())):,} images below {shown(root)} are empty, no files, or "
            f"cannot be decoded: {listed(list(faults))}. Replace them, or leave them out with --skip-corrupt."
        )
    whole = {part: [file for file in files[part] if file.path not in faults] for part in PARTS}
    splits = {**_hold_out(whole["train"], classes, root), "test": _ordered(whole["val"])}
    names = [text_of(name) for name in classes]
    about = {"dataset": dataset.name, "classes": names, "mean": MEAN, "std": STD, "size": dataset.shape[1]}
    checksums = {name: _write(split_file(out, name), part, {**about, "split": name}) for name, part in splits.items()}
    source = {"kind": "image-folder", "where": str(root.resolve()), "note": _note(dataset, classes, whole, faults)}
    skipped = [text_of(path) for path in sorted(faults)]
    write_json(Path(out) / SOURCE, {**source, "checksums": checksums, "skipped": skipped})
    return Path(out)


def load(path: Path) -> ImageFolder:
    """Read one split's index.

    Raises:
        InputError: it is missing, damaged, from a newer version, does not belong to the source.json in its folder, or
            the folder of the images is gone.
    """
    about, paths, labels, _ = _read(path)
    source = read_source(path.parent)
    if source["checksums"][about["split"]] != about["checksum"]:
        raise InputError(f"{path} and {path.parent / SOURCE} are not of one data set. {_AGAIN}")
    root = Path(source["where"])
    if not root.is_dir():
        raise InputError(f"{path} is about images in {root}, but there is no such folder. Restore it. {_AGAIN}")
    return ImageFolder(
        root=root,
        paths=paths,
        labels=torch.from_numpy(labels),
        size=about["size"],
        classes=tuple(about["classes"]),
        mean=tuple(about["mean"]),
        std=tuple(about["std"]),
        dataset=about["dataset"],
        split=about["split"],
        source=f"image-folder: {source['note']}",
        checksum=about["checksum"],
    )


def is_index(path: Path) -> bool:
    """Whether a file is an index of images."""
    try:
        with safetensors.safe_open(require_file(path, "a split of a dataset"), framework="np") as file:
            return HEADER in (file.metadata() or {})
    except (InputError, OSError, safetensors.SafetensorError):
        return False


def changed(path: Path) -> list[str]:
    """Paths of the images of an index that are gone or now have another size."""
    folder = load(path)
    _, paths, _, sizes = _read(path)
    different = []
    for name, size in zip(paths, sizes.tolist(), strict=True):
        try:
            same = (folder.root / name).stat().st_size == size
        except OSError:
            same = False
        if not same:
            different.append(name)
    return different


def _faults(root: Path, files: list[File], verify: bool) -> set[str]:
    """Paths of images that are empty or no files or, with `verify`, cannot be decoded."""
    if not verify:
        return {file.path for file in files if not file.bytes}

    def is_broken(file: File) -> bool:
        if not file.bytes:
            return True
        try:
            open_image(root / file.path)
        except InputError:
            return True
        return False

    broken = set()
    with ThreadPoolExecutor() as pool:  # Pillow releases the interpreter lock while it decodes
        for start in range(0, len(files), _VERIFIED_AT_ONCE):  # in blocks: a million waiting tasks fill the memory
            block = files[start : start + _VERIFIED_AT_ONCE]
            broken |= {file.path for file, bad in zip(block, pool.map(is_broken, block), strict=True) if bad}
    return broken


def _ordered(files: Iterable[File]) -> list[File]:
    return sorted(files, key=lambda file: hashlib.sha256(os.fsencode(file.path)).digest())


def _hold_out(files: list[File], classes: list[str], root: Path) -> dict[str, list[File]]:
    """Split the official train part into train and val; see the module's docstring."""
    ordered = _ordered(files)
    counts = np.bincount([file.label for file in files], minlength=len(classes))
    for name, count in zip(classes, counts.tolist(), strict=True):
        if count < 2:
            raise InputError(
                f"{shown(root / 'train' / name)} has {count} usable images; it needs two, one of them for val. "
                "Add some."
            )
    left = np.minimum(VAL_PER_CLASS, np.maximum(1, counts // 10)).tolist()
    parts: dict[str, list[File]] = {"train": [], "val": []}
    for file in ordered:
        parts["val" if left[file.label] > 0 else "train"].append(file)
        left[file.label] -= 1
    return parts


def _note(dataset: Dataset, classes: list[str], files: dict[str, list[File]], skipped: set[str]) -> str:
    """How the counts of the folder differ from the official release."""
    got = (len(classes), len(files["train"]), len(files["val"]))
    official = (dataset.num_classes, dataset.official_train, dataset.official_test)
    words = "{:,} classes, {:,} train and {:,} val images"
    same = "as many classes and images as the official release"
    note = same if got == official else f"{words.format(*got)}; the official release has {words.format(*official)}"
    return f"{note}; {len(skipped):,} corrupt images left out: {listed(sorted(skipped))}" if skipped else note


def _write(path: Path, files: list[File], about: dict[str, Any]) -> str:
    separator = _SEPARATORS[FORMAT_VERSION]
    arrays: dict[str, Any] = {
        "labels": np.array([file.label for file in files], dtype=np.int64),
        "bytes": np.array([file.bytes for file in files], dtype=np.int64),
        "paths": np.frombuffer(os.fsencode(separator.join(file.path for file in files)), dtype=np.uint8),
    }
    checksum = _checksum(about, arrays)
    header = json.dumps({"version": FORMAT_VERSION, "checksum": checksum, **about})
    content = safetensors.numpy.save(arrays, {HEADER: header})
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return checksum


def _checksum(about: dict[str, Any], arrays: dict[str, Any]) -> str:
    hashed = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in ("labels", "bytes", "paths"):
        hashed.update(arrays[name].tobytes())
    return hashed.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], tuple[str, ...], Any, Any]:
    """Read and verify an index: description with checksum, paths, labels, sizes in bytes."""
    arrays, header = tensors.read(path, "an index of images", _AGAIN, framework="np", header=HEADER)
    require_header(header, path, FORMAT_VERSION)
    kinds = {"labels": ("int64", (None,)), "bytes": ("int64", (None,)), "paths": ("uint8", (None,))}
    tensors.require(arrays, kinds, path, _AGAIN)
    checksum, version = header.pop("checksum"), header.pop("version")
    if _checksum(header, arrays) != checksum:
        raise InputError(f"{path} is damaged: its checksum does not fit its content. {_AGAIN}")
    paths = _plain_paths(arrays["paths"].tobytes(), _SEPARATORS[version], path)
    labels, sizes = arrays["labels"], arrays["bytes"]
    if not len(paths) == len(labels) == len(sizes) or "size" not in header:
        raise InputError(f"{path} should have a path, a label and a size for each image, but has not. {_AGAIN}")
    require_labels(int(labels.min()), int(labels.max()), len(header["classes"]), path)
    return {**header, "checksum": checksum}, paths, labels, sizes


def _plain_paths(joined: bytes, separator: str, index: Path) -> tuple[str, ...]:
    """The paths of an index; InputError where one would leave the folder of the images."""
    paths = tuple(os.fsdecode(joined).split(separator))
    if odd := [path for path in paths if not _PLAIN.fullmatch(path)]:
        raise InputError(f"{index} should name images as PART/CLASS/NAME, but names {shown(odd[0])!r}. {_AGAIN}")
    return paths


def _require_utf8(root: Path) -> None:
    """InputError if a name on the way to the root is no UTF-8: source.json could not hold it."""
    try:
        str(root.resolve()).encode()
    except UnicodeEncodeError:
        raise InputError(f"the path {shown(root.resolve())} should be UTF-8, but is not. Rename its folders.") from None
