"""What is known of a dataset of one's own without decoding an image: classes, counts, splits, shape, settings.

Neither torch nor numpy; of Parquet files the labels are read, by pyarrow.
"""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daar.data import datasets, pack_files
from daar.data.datasets import Dataset
from daar.data.own import folder, table
from daar.data.own.folder import WHOLE
from daar.data.own.table import Columns
from daar.errors import InputError
from daar.storage import documents
from daar.storage.documents import shown
from daar.storage.files import digest

RESULT_NEUTRAL = "facts of a dataset; its packs carry their checksum"

# a part of paths and of the names of tables; without hyphens, since those have one before the network's name
_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,99}")
FOLDER, PARQUET = "own-folder", "own-parquet"
# of a suite's entry, and of `daar data prepare`
KEYS = ("folder", "parquet", "image", "label", "size", "crop", "flip", "title")
# of each class: fewest images that are split three ways, fewest of which some are held out, and of a part as it is
_FEWEST = {WHOLE: 5, "train": 2}
# of its images, a fifth is test and a tenth val, where the folder does not say
_TEST, _VAL = 5, 10
# packed pixels are held in memory, some of them twice for a while
_MOST_BYTES = 8 * 2**30


@dataclass(frozen=True)
class OwnDataset(Dataset):
    """A dataset of one's own.

    Attributes:
        place: the folder, or the Parquet file or folder of such.
        crop: whether the centre square of an image is taken; else the whole image is squeezed.
        image_column: name of the image column of Parquet files.
        listing: SHA-256 of the images' paths and sizes in bytes; of Parquet files those of the files.
    """

    place: str = ""
    crop: bool = True
    image_column: str = "image"
    listing: str = ""

    @property
    def size(self) -> int:
        """Pixels of a side."""
        return self.shape[1]

    @property
    def is_table(self) -> bool:
        """Whether it is read from Parquet files."""
        return self.sources == (PARQUET,)

    @property
    def columns(self) -> Columns:
        """The columns of Parquet files."""
        return Columns(self.image_column, self.label_column)


def define(name: str, entry: Mapping[str, Any], where: str) -> OwnDataset:
    """Look at a dataset of one's own, and have it known by its name.

    Args:
        name: its name.
        entry: as in a suite, valid by its schema.
        where: begins messages: what names it.

    Raises:
        InputError: the name is taken; or whatever is wrong with its folder or files, one line.
    """
    _require_name(name, where)
    is_table = _require_one_source(entry, where) == "parquet"
    place = _expanded(entry["parquet" if is_table else "folder"])
    columns = Columns(entry.get("image", "image"), entry.get("label", "label"))
    if is_table:
        files = table.files(place, where)
        classes, labels = table.labels(files, columns, where)
        listing = [[str(file.name), file.stat().st_size] for found in files.values() for file in found]
    else:
        found = folder.scan(place, where)
        classes, labels = found.classes, {part: [label for _, label, _ in of] for part, of in found.parts.items()}
        listing = [[path, size] for of in found.parts.values() for path, _, size in of]
    counts = {part: _counts(of, len(classes)) for part, of in labels.items()}
    require_enough(classes, counts, f"{where}: {shown(place)}")
    splits = {split: sum(taken) for split, taken in divided(counts).items()}
    _require_small(sum(splits.values()), entry["size"], where)
    made = _made(
        name, entry, classes, splits, test_given=WHOLE not in counts, kind=PARQUET if is_table else FOLDER,
        place=str(place), listing=digest(listing),
    )  # fmt: skip
    datasets.register(made)
    return made


def _require_name(name: str, where: str) -> None:
    if name in datasets.DATASETS:
        raise InputError(f"{where}: {name} is a dataset that daar has already. Choose another name for yours.")
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{where}: a dataset's name should be of a-z, 0-9 and _, 100 at most, got {documents.shown(name)!r}. "
            "Choose another."
        )


def _require_one_source(entry: Mapping[str, Any], where: str) -> str:
    """Whether it is a folder or parquet; InputError where it says neither, both, or columns of a folder."""
    said = [key for key in ("folder", "parquet") if key in entry]
    if len(said) != 1:
        raise InputError(f"{where} names {' and '.join(said) or 'neither folder nor parquet'}. Name one of the two.")
    if "size" not in entry:
        raise InputError(f"{where} names no size. Name the height and width that its images are scaled to: size 64.")
    if said == ["folder"] and (columns := [key for key in ("image", "label") if key in entry]):
        raise InputError(f"{where}: {columns[0]} names a column of Parquet files, but it is a folder. Take it out.")
    return said[0]


def _made(
    name: str, entry: Mapping[str, Any], classes: tuple[str, ...], splits: dict[str, int], *, test_given: bool,
    kind: str, place: str, listing: str,
) -> OwnDataset:  # fmt: skip
    test = splits["test"] if test_given else 0
    return OwnDataset(
        name=name,
        title=entry.get("title", name),
        classes=classes,
        shape=(3, entry["size"], entry["size"]),
        official_train=sum(splits.values()) - test,
        official_test=test,
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        flip=entry.get("flip", True),
        sources=(kind,),
        label_column=entry.get("label", "label"),
        place=place,
        crop=entry.get("crop", True),
        image_column=entry.get("image", "image"),
        listing=listing,
    )


def divided(counts: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """How many images of each class go to train, val and test.

    Args:
        counts: part → images of each class.

    Returns:
        Split → images of each class. A single part is divided; a part that is lacking is held out of train; where there
        are train and val alone, val is the test part, which someone has held out already.
    """
    if WHOLE in counts:
        test, val = ([max(1, count // share) for count in counts[WHOLE]] for share in (_TEST, _VAL))
        return {"train": _less(_less(counts[WHOLE], test), val), "val": val, "test": test}
    if "val" in counts and "test" in counts:
        return {split: counts[split] for split in pack_files.SPLITS}
    val = [max(1, count // _VAL) for count in counts["train"]]
    return {"train": _less(counts["train"], val), "val": val, "test": counts.get("test", counts.get("val", []))}


def _less(counts: list[int], taken: list[int]) -> list[int]:
    return [count - less for count, less in zip(counts, taken, strict=True)]


def _counts(labels: list[int], classes: int) -> list[int]:
    counts = [0] * classes
    for label in labels:
        counts[label] += 1
    return counts


def require_enough(classes: tuple[str, ...], counts: Mapping[str, list[int]], where: str) -> None:
    """InputError if there is one class, or a class has too few images to be split."""
    if len(classes) < 2:
        raise InputError(f"{where} has one class, {documents.shown(classes[0])}; expected two or more. Add another.")
    for part, of in counts.items():
        fewest = _FEWEST[WHOLE] if part == WHOLE else _FEWEST["train"] if part == "train" else 1
        for name, count in zip(classes, of, strict=True):
            if count < fewest:
                there = "" if part == WHOLE else f" in {part}"
                raise InputError(
                    f"{where} has {count} {'image' if count == 1 else 'images'} of the class {documents.shown(name)}"
                    f"{there}; expected {fewest} or more, to split them. Add some, or remove the class."
                )


def _require_small(images: int, size: int, where: str) -> None:
    """InputError if packed pixels would not fit into memory."""
    held = 3 * images * size * size
    if held > _MOST_BYTES:
        raise InputError(
            f"{where}: {images:,} images of {size}x{size} are {held / 2**30:.1f} GiB of pixels, which are held in "
            f"memory; {_MOST_BYTES / 2**30:.0f} at most. Choose a smaller size."
        )


def to_json(dataset: OwnDataset) -> dict[str, Any]:
    """What its prepared form says of it, from which `recall` knows it again."""
    return {
        "title": dataset.title,
        "classes": list(dataset.classes),
        "size": dataset.size,
        "splits": dataset.splits,
        "test_given": bool(dataset.official_test),
        "crop": dataset.crop,
        "flip": dataset.flip,
        "image": dataset.image_column,
        "label": dataset.label_column,
        "listing": dataset.listing,
    }


def recall(name: str, folder: Path) -> OwnDataset | None:
    """Have a dataset of one's own known by what its prepared form says of it; None if there is none in the folder.

    Raises:
        InputError: the note on it is damaged.
    """
    if name in datasets.DATASETS or not _NAME.fullmatch(name) or not (folder / pack_files.SOURCE).is_file():
        return None
    source = pack_files.read_source(folder)
    said = source.get("dataset")
    if said is None:
        return None
    made = _made(
        name, said, tuple(said["classes"]), said["splits"], test_given=said["test_given"], kind=source["kind"],
        place=source["where"], listing=said["listing"],
    )  # fmt: skip
    datasets.register(made)
    return made


def recall_all(packs: Path) -> None:
    """The same for every dataset of one's own in a folder of packed datasets."""
    for note in sorted(packs.glob(f"*/{pack_files.SOURCE}")):
        with suppress(InputError):  # whoever reads the images will be told
            recall(note.parent.name, note.parent)


def from_suite(name: str, entry: Mapping[str, Any], packs: Path, where: str) -> OwnDataset:
    """As `define`; where the images are gone, what was packed of them with the same settings will do."""
    place = _expanded(entry.get("parquet", entry.get("folder", "")))
    if not os.path.exists(place):  # noqa: PTH110  # Path's raises where nobody may look
        packed = recall(name, packs / name)
        if packed is not None and entry.items() <= {**to_json(packed), **_place(entry)}.items():
            return packed
    return define(name, entry, where)


def _expanded(place: str) -> Path:
    """A path with one's home for `~`; as it is where nobody has that name."""
    try:
        return Path(place).expanduser()
    except RuntimeError:
        return Path(place)


def _place(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in ("folder", "parquet") if key in entry}
