"""Packs a dataset of one's own: decode, scale, split by hash where its folder does not say, mean and std of train."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from daar.data import normalisation, packed
from daar.data.folder_scan import listed
from daar.data.own import folder, images, table
from daar.data.own.definition import OwnDataset, divided, require_enough, to_json
from daar.data.own.folder import WHOLE
from daar.data.pack_files import SOURCE, SPLITS, split_file
from daar.data.readers import Part
from daar.data.splits import Images, first_per_class, packed_order
from daar.errors import InputError
from daar.storage.documents import shown
from daar.storage.files import write_json

_AT_ONCE = 1_024
_Item = tuple[bytes | Path | None, str, int]


def prepare(dataset: OwnDataset, out: Path, *, skip_corrupt: bool = False) -> Path:
    """Read, split and pack a dataset of one's own.

    Args:
        dataset: as it was defined; its folder must still hold what it held then.
        out: folder for the packed files.
        skip_corrupt: leave images out that cannot be decoded and note them, instead of refusing the folder.

    Returns:
        The folder of the packed files.

    Raises:
        InputError: an image cannot be decoded, the folder has changed, or mean or std cannot be.
    """
    where = f"dataset {dataset.name}"
    items, remarks = _items(dataset, where)
    kinds: Counter[str] = Counter()
    faults: list[str] = []
    parts = {part: _decoded(of, dataset, kinds, faults) for part, of in items.items()}
    total = sum(map(len, items.values()))
    if faults and not skip_corrupt:
        raise InputError(
            f"{where}: {len(faults):,} of {total:,} images in {shown(dataset.place)} cannot be decoded: "
            f"{listed(faults)}. Replace or remove them, or leave them out with `daar data prepare --skip-corrupt`."
        )
    counted = {part: np.bincount(of.labels, minlength=len(dataset.classes)).tolist() for part, of in parts.items()}
    require_enough(dataset.classes, counted, f"{where}: {shown(dataset.place)}")
    splits = _split({part: _ordered(of) for part, of in parts.items()}, divided(counted))
    counts = {split: len(splits[split].labels) for split in SPLITS}
    if not faults and counts != dataset.splits:
        raise InputError(f"{where}: {shown(dataset.place)} has changed while it was read. Run the same command again.")
    mean, std = packed.channel_statistics(splits["train"].images)
    if min(std) < normalisation.STD[0]:
        raise InputError(
            f"{where}: the train images of {shown(dataset.place)} have a channel with one value (std "
            f"{min(std):g}); expected pictures. Replace them."
        )
    normalisation.require(mean, std, 3, f"the train images of {shown(dataset.place)}")
    about = {"dataset": dataset.name, "classes": dataset.classes, "mean": mean, "std": std}
    checksums = {
        name: packed.write_split(split_file(out, name), splits[name], {**about, "split": name}) for name in SPLITS
    }
    note = _note(list(items), counts, kinds, [*remarks, *_equal(splits)])
    write_json(
        Path(out) / SOURCE,
        {
            **{"kind": dataset.sources[0], "where": str(Path(dataset.place).absolute()), "note": note},
            **{"checksums": checksums, "skipped": sorted(faults), "dataset": {**to_json(dataset), "splits": counts}},
        },
    )
    return Path(out)


def _items(dataset: OwnDataset, where: str) -> tuple[dict[str, list[_Item]], list[str]]:
    """Part → the image files with what a message calls them and their labels; and remarks for the note."""
    place = Path(dataset.place)
    if dataset.is_table:
        files = table.files(place, where)
        _, labels = table.labels(files, dataset.columns, where)
        rows = {
            part: [row for file in found for row in table.images(file, dataset.columns)]
            for part, found in files.items()
        }
        return {
            part: [(encoded, name, label) for (name, encoded), label in zip(of, labels[part], strict=True)]
            for part, of in rows.items()
        }, []
    found_here = folder.scan(place, where)
    passed = found_here.passed_over
    remarks = [f"passed over what is no image by its ending: {listed(passed)}"] if passed else []
    return {
        part: [(place / path, shown(path), label) for path, label, _ in of] for part, of in found_here.parts.items()
    }, remarks


def _decoded(items: list[_Item], dataset: OwnDataset, kinds: Counter[str], faults: list[str]) -> Part:
    """The images of a part (N, size, size, 3), without those that cannot be decoded, which are noted as faults."""
    pixels = np.empty((len(items), dataset.size, dataset.size, 3), dtype=np.uint8)
    labels = np.empty(len(items), dtype=np.int64)
    count = 0

    def decode(item: _Item) -> tuple[Images | None, list[str], str]:
        try:
            image, found = images.read(item[0], item[1], dataset.size, dataset.crop)
        except InputError as error:
            return None, [], str(error).rstrip(".")
        return image, found, ""

    waiting: Iterator[_Item] = iter(items)
    with ThreadPoolExecutor() as pool:  # Pillow releases the interpreter lock while it decodes
        while some := list(islice(waiting, _AT_ONCE)):  # in blocks, so that few decoded images wait
            for item, (image, found, fault) in zip(some, pool.map(decode, some), strict=True):
                kinds.update(found)
                if image is None:
                    faults.append(fault)
                    continue
                pixels[count], labels[count] = image, item[2]
                count += 1
    return Part(pixels[:count], labels[:count])


def _ordered(part: Part) -> Part:
    order = packed_order(part.images, part.labels)
    return Part(part.images[order], part.labels[order])


def _split(parts: dict[str, Part], sizes: dict[str, list[int]]) -> dict[str, Part]:
    """Train, val and test, of parts in packed order, which is that of the hash of the pixels.

    Args:
        parts: in packed order.
        sizes: split → images of each class.
    """
    if {"val", "test"} <= parts.keys():
        return parts
    source = parts.get(WHOLE, parts.get("train"))
    assert source is not None
    free = np.ones(len(source.labels), dtype=np.bool_)
    splits = {} if WHOLE in parts else {"test": parts["test" if "test" in parts else "val"]}
    for split in ("test", "val"):
        if split not in splits:
            taken = first_per_class(source.labels, sizes[split], free)
            splits[split], free = Part(source.images[taken], source.labels[taken]), free & ~taken
    return {**splits, "train": Part(source.images[free], source.labels[free])}


def _equal(splits: dict[str, Part]) -> list[str]:
    """A remark for every two splits with images in common."""
    hashes = {
        name: {hashlib.sha256(image.tobytes()).digest() for image in part.images} for name, part in splits.items()
    }
    pairs = (("test", "train"), ("test", "val"), ("val", "train"))
    common = {pair: len(hashes[pair[0]] & hashes[pair[1]]) for pair in pairs}
    return [f"{count:,} images are both in {one} and in {other}" for (one, other), count in common.items() if count]


def _note(parts: list[str], counts: dict[str, int], kinds: Counter[str], remarks: list[str]) -> str:
    """What the images were and how they were split."""
    how = {
        (WHOLE,): "split by hash",
        ("train", "val"): "val of the folder is test here; val is held out of train by hash",
        ("train", "test"): "val is held out of train by hash",
    }.get(tuple(parts), "split as found")
    numbers = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    special = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
    return "; ".join([f"{numbers}, {how}", *([f"of its images {special}"] if special else []), *remarks])
