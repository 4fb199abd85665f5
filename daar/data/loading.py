"""Prepare a data set and read a split of it, in either form: packed, or an index of a folder of images."""

from pathlib import Path

import torch

from daar.data import folder_scan, image_folder, packed, sources
from daar.data.datasets import Dataset
from daar.data.image_folder import ImageFolder
from daar.data.own import pack
from daar.data.own.definition import OwnDataset
from daar.data.pack_files import SPLITS, read_source, split_file
from daar.data.packed import DatasetReport, Pack
from daar.errors import InputError

Split = Pack | ImageFolder


def prepare(
    dataset: Dataset,
    out: Path,
    *,
    data_root: Path | None = None,
    source: str = "auto",
    download: bool = False,
    verify: bool = False,
    skip_corrupt: bool = False,
) -> Path:
    """Find a data set, check it, and pack it or write its index; see `packed.prepare` and `image_folder.prepare`.

    Raises:
        InputError: it is not there, is not as it should be, or cannot be downloaded or written; or `skip_corrupt` is
            set for a data set that is packed, which must be complete.
    """
    if isinstance(dataset, OwnDataset):
        return pack.prepare(dataset, out, skip_corrupt=skip_corrupt)
    if dataset.stays_in_folder:
        located = sources.locate(dataset, data_root, source)
        if located is None:
            raise sources.not_found(dataset, data_root)
        return image_folder.prepare(dataset, located.path, out, verify=verify, skip_corrupt=skip_corrupt)
    if skip_corrupt:
        raise InputError(f"--skip-corrupt is for folders of images; {dataset.title} is packed whole. Leave it out.")
    return packed.prepare(dataset, out, data_root=data_root, source=source, download=download)  # decodes all images


def load(path: Path) -> Split:
    """Read one split, `<dir>/{train,val,test}.safetensors`.

    Raises:
        InputError: it is missing or damaged, or the folder of its images is gone.
    """
    path = Path(path)
    return image_folder.load(path) if image_folder.is_index(path) else packed.load(path)


def check(folder: Path) -> DatasetReport:
    """Verify all splits of a prepared data set and report what is in it; of an index also that all images are there.

    Raises:
        InputError: a split cannot be read, or images are gone or have another size than when they were indexed.
    """
    folder = Path(folder)
    if not image_folder.is_index(split_file(folder, "train")):
        return packed.check(folder)
    files = {name: split_file(folder, name) for name in SPLITS}
    splits = {name: image_folder.load(file) for name, file in files.items()}
    if changed := [path for file in files.values() for path in image_folder.changed(file)]:
        raise InputError(
            f"{len(changed):,} images below {splits['train'].root} are gone or not what they were when indexed: "
            f"{folder_scan.listed(changed)}. Restore them, or make it again with `daar data prepare`."
        )
    train = splits["train"]
    source = read_source(folder)
    counts = {name: torch.bincount(part.labels, minlength=len(part.classes)).tolist() for name, part in splits.items()}
    return DatasetReport(
        dataset=train.dataset,
        source={key: source[key] for key in ("kind", "where", "note")},
        comparison=source["note"],
        counts={name: dict(zip(train.classes, numbers, strict=True)) for name, numbers in counts.items()},
        mean=train.mean,
        std=train.std,
        checksums={name: part.checksum for name, part in splits.items()},
    )
