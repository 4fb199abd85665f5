"""Reads a source into arrays. Error messages name the file, and the row of a table."""

import json
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from daar.data.datasets import Dataset
from daar.data.decoding import cause, open_encoded
from daar.data.sources import Source
from daar.data.splits import Images, Labels
from daar.errors import InputError
from daar.storage.documents import require_file, shown

_SHOWN = 12  # class names listed in a message before "and N more"
_PER_TASK = 256  # images per thread-pool task: a task per image would cost as much as decoding it


@dataclass(frozen=True, eq=False)
class Part:
    """One official part of a data set.

    Attributes:
        images: (N, H, W, C), in the order of the source.
        labels: (N,).
    """

    images: Images
    labels: Labels


def read(source: Source, dataset: Dataset) -> dict[str, Part]:
    """Read every official part of a data set.

    Args:
        source: kind and folder.
        dataset: which one; counts, classes and shape are checked.

    Returns:
        Part by name: "train" and, if there is one, "test".

    Raises:
        InputError: a file, row, class, label or count is not as it should be, or cannot be read.
    """
    try:
        return {part: _READERS[source.kind](source.path, part, dataset) for part in dataset.official}
    except OSError as error:
        where = error.filename or source.path
        raise InputError(
            f"cannot read {where}: {error.strerror or error}. Fix it, or name another data root."
        ) from error


def download(dataset: Dataset, place: Path) -> Source:
    """Download a data set with torchvision, which checks its MD5.

    Args:
        dataset: which one.
        place: folder that it is written to.

    Raises:
        InputError: it cannot be downloaded or written.
    """
    import torchvision

    try:
        getattr(torchvision.datasets, dataset.torchvision_class)(root=place, download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"cannot download {dataset.title} to {place}: {error}. "
            "Check the connection, or copy the files there from a machine that has them."
        ) from error
    return Source("torchvision", place / dataset.torchvision_folder)


def _read_torchvision(folder: Path, part: str, dataset: Dataset) -> Part:
    import torchvision
    from torchvision.datasets.utils import check_integrity

    kind = getattr(torchvision.datasets, dataset.torchvision_class)
    # torchvision would only say that some file is wrong; and it opens only pickles that have passed this check
    for name, md5 in [*kind.train_list, *kind.test_list, [kind.meta["filename"], kind.meta["md5"]]]:
        path = folder / name
        if path.exists():
            require_file(path, "a file of torchvision's download")
        if not check_integrity(path, md5):
            fault = "differs from the official file (MD5)" if path.exists() else "is missing"
            raise InputError(f"{path} {fault}. Delete {folder} and fetch it again with --download.")
    with warnings.catch_warnings():
        # the official pickles spell a dtype's alignment as 0, which NumPy 2.4 deprecates
        warnings.filterwarnings("ignore", message=".*align", category=np.exceptions.VisibleDeprecationWarning)
        data = kind(root=folder.parent, train=part == "train")
    _require_classes(data.classes, dataset, folder)
    _require_count(len(data.data), part, dataset, folder)
    return Part(np.ascontiguousarray(data.data), np.array(data.targets, dtype=np.int64))


def _read_folder(folder: Path, part: str, dataset: Dataset) -> Part:
    if not (folder / part).is_dir():
        raise InputError(f"{folder / part} is missing: expected a folder per class in it. Put the images there.")
    there = {path.name for path in _visible(folder / part)}
    for name in sorted(there - set(dataset.classes)):
        raise InputError(
            f"{shown(folder / part / name)} is not a class of {dataset.title}; expected the folders "
            f"{_listed(dataset.classes)}. Rename or remove it."
        )
    for name in dataset.classes:
        if not (folder / part / name).is_dir():
            raise InputError(f"class folder {folder / part / name} is missing. Put that class's images there.")
    files = [(path, label) for label, name in enumerate(dataset.classes) for path in _visible(folder / part / name)]
    labels = np.array([label for _, label in files], dtype=np.int64)
    counts = np.bincount(labels, minlength=len(dataset.classes))
    fewest, most = int(counts.argmin()), int(counts.argmax())
    detail = (
        f"fewest in {dataset.classes[fewest]} ({counts[fewest]:,}), most in {dataset.classes[most]} ({counts[most]:,})"
    )
    _require_count(len(files), part, dataset, folder / part, detail)
    return Part(_decode_all([path for path, _ in files], lambda row: shown(files[row][0]), dataset), labels)


def _visible(folder: Path) -> list[Path]:
    """The entries of a folder, by name, without hidden files such as .DS_Store."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _read_parquet(folder: Path, part: str, dataset: Dataset) -> Part:
    paths = sorted(folder.glob(f"{part}*.parquet"))
    if not paths:
        raise InputError(f"{folder} holds no {part}*.parquet, though the other part is there. Put it there too.")
    tables = [_read_table(path, dataset) for path in paths]
    detail = ", ".join(f"{path.name} {len(labels):,}" for path, (_, labels) in zip(paths, tables, strict=True))
    _require_count(sum(len(labels) for _, labels in tables), part, dataset, folder, detail)
    images = [
        _decode_all(encoded, partial(_row, path), dataset) for path, (encoded, _) in zip(paths, tables, strict=True)
    ]
    return Part(np.concatenate(images), np.concatenate([labels for _, labels in tables]))


def _row(path: Path, row: int) -> str:
    return f"{path}, row {row} (from 0)"


def _read_table(path: Path, dataset: Dataset) -> tuple[list[bytes], Labels]:
    """Read the encoded images and the labels (N,) of one Parquet file."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    require_file(path, "a Parquet file")
    try:
        schema = pq.read_schema(path)
        column = _image_column(schema, path, dataset)
        table = pq.read_table(path, columns=[column, dataset.label_column], partitioning=None)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} should be a Parquet file, but it cannot be read: {reason}. Fetch it again."
        ) from error
    encoded = pc.struct_field(table.column(column), "bytes").to_pylist()
    labels = table.column(dataset.label_column).to_pylist()
    for row, (image, label) in enumerate(zip(encoded, labels, strict=True)):
        if image is None or label is None:
            raise InputError(
                f"{_row(path, row)}: {'image' if image is None else 'label'} is null. Fetch the file again."
            )
        if not 0 <= label < len(dataset.classes):
            raise InputError(
                f"{_row(path, row)}: label {label} is outside 0 to {len(dataset.classes) - 1}. "
                f"Check that the file holds {dataset.title}."
            )
    return encoded, np.array(labels, dtype=np.int64)


def _image_column(schema: Any, path: Path, dataset: Dataset) -> str:
    """Check that a Parquet schema has the Hugging Face layout, and return the name of its image column."""
    import pyarrow as pa

    column = next((name for name in ("img", "image") if name in schema.names), None)
    if column is None or dataset.label_column not in schema.names:
        raise InputError(
            f"{path} has columns {', '.join(schema.names)}; expected img or image, and {dataset.label_column}. "
            f"Check that it holds {dataset.title} in the Hugging Face layout."
        )
    kind = schema.field(column).type
    if not pa.types.is_struct(kind) or "bytes" not in kind.names or not _is_binary(kind.field("bytes").type):
        raise InputError(
            f"{path}: column {column} is {kind}; expected a struct with the image file's bytes. Convert it."
        )
    kind = schema.field(dataset.label_column).type
    if not pa.types.is_integer(kind):
        raise InputError(f"{path}: column {dataset.label_column} is {kind}; expected int64. Convert it.")
    with suppress(KeyError, TypeError, ValueError):  # the names are optional, like every key on the way to them
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        _require_classes(features[dataset.label_column]["names"], dataset, path)
    return column


def _is_binary(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _read_scikit_learn(_package: Path, part: str, dataset: Dataset) -> Part:
    from sklearn.datasets import load_digits

    digits = load_digits()
    # values 0..16 become 0..255; Pillow's resize works in integers, so it gives the same bytes everywhere
    small = np.round(digits.images * 255 / 16).astype(np.uint8)
    _, height, width = dataset.shape
    large = [np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)) for image in small]
    _require_count(len(large), part, dataset, Path("sklearn.datasets.load_digits()"))
    return Part(np.repeat(np.stack(large)[..., None], 3, axis=-1), digits.target.astype(np.int64))


def _decode_all(encoded: Sequence[bytes | Path], name: Callable[[int], str], dataset: Dataset) -> Images:
    """Decode images (N, H, W, C) in threads: Pillow releases the interpreter lock while it decodes.

    Args:
        encoded: bytes or path of each image file, N of them.
        name: row → what a message calls that image.
        dataset: gives the shape.
    """
    channels, height, width = dataset.shape
    images = np.empty((len(encoded), height, width, channels), dtype=np.uint8)

    def decode(start: int) -> None:
        for row in range(start, min(start + _PER_TASK, len(encoded))):
            _decode(encoded[row], name(row), images[row])

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(decode, range(0, len(encoded), _PER_TASK)):
            pass  # reading the results raises the first error
    return images


def _decode(encoded: bytes | Path, name: str, out: Images) -> None:
    """Decode one image into `out` (H, W, 3)."""
    if isinstance(encoded, Path):
        require_file(encoded, "an image")
    try:
        with open_encoded(BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
            size, mode = (image.height, image.width), image.mode
            if size == out.shape[:2] and mode in ("RGB", "L", "P"):
                out[...] = np.asarray(image.convert("RGB"))
                return
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise InputError(f"{name} should be an image, but it cannot be decoded: {cause(error)}. Replace it.") from error
    expected = f"{out.shape[0]}x{out.shape[1]} RGB"
    raise InputError(f"{name} is a {size[0]}x{size[1]} {mode} image; expected {expected}. Replace it.")


def _require_count(count: int, part: str, dataset: Dataset, where: Path, detail: str = "") -> None:
    expected = dataset.official[part]
    if count != expected:
        detail = f" ({detail})" if detail else ""
        raise InputError(
            f"{where} holds {count:,} images of the {part} part of {dataset.title}{detail}; expected {expected:,}. "
            "Complete it, or remove what is too much."
        )


def _require_classes(names: Sequence[str], dataset: Dataset, where: Path) -> None:
    if tuple(names) == dataset.classes:
        return
    same = next((row for row, (name, own) in enumerate(zip(names, dataset.classes, strict=False)) if name != own), None)
    at = min(len(names), len(dataset.classes)) if same is None else same
    raise InputError(
        f"{where} has the classes {_listed(names)}; {dataset.title} has {_listed(dataset.classes)}, in this order; "
        f"they differ from class {at} on. Check that it holds that data set."
    )


def _listed(names: Sequence[str]) -> str:
    """Class names for a message; only the first ones of many."""
    more = len(names) - _SHOWN
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:_SHOWN])} and {more} more"


_READERS: dict[str, Callable[[Path, str, Dataset], Part]] = {
    "torchvision": _read_torchvision,
    "folder": _read_folder,
    "parquet": _read_parquet,
    "scikit-learn": _read_scikit_learn,
}
