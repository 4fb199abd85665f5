"""Datasets: `data prepare` and `data check`.

Heavy modules are imported where they are needed.
"""

import argparse
import json
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from daar.cli import options
from daar.data import datasets, pack_files
from daar.data.own import definition
from daar.storage import documents
from daar.storage.schemas import validate
from daar.suite import paths


def add_commands(subparsers: Any) -> None:
    """Add the parsers of this family."""
    data = subparsers.add_parser("data", help="pack a dataset, or check a packed one").add_subparsers(required=True)
    command = options.command(data, "prepare", prepare_data, "find, check and pack a dataset")
    command.add_argument("dataset", metavar="DATASET")
    options.add_out(command, "folder of the packed files (default: results/data/DATASET)", folder=True, required=False)
    command.add_argument("--source", default="auto", help="torchvision, folder or parquet (default: what is there)")
    command.add_argument("--download", action="store_true", help="fetch it with torchvision where it is not there")
    words = "decode every file of a folder of images, too (packing always does)"
    command.add_argument("--verify", action="store_true", help=words)
    words = "leave out of a folder of images what cannot be decoded, and note it; verifies"
    command.add_argument("--skip-corrupt", action="store_true", help=words)
    options.add_data_root(command)
    _add_own(command)

    command = options.command(data, "check", check_data, "verify a packed dataset and say what is in it")
    command.add_argument("folder", type=Path, metavar="DIR")
    options.add_json(command)


def _add_own(command: Any) -> None:
    """What a dataset of one's own is."""
    group = command.add_argument_group("a dataset of your own", "see docs/adding-a-dataset.md")
    words = "its images: DIR/<class>/<image>, or DIR/{train,val,test}/<class>/<image>"
    group.add_argument("--folder", metavar="DIR", help=words)
    group.add_argument("--parquet", metavar="FILE|DIR", help="the same as Parquet: a file, or a folder of such")
    group.add_argument("--image", metavar="COLUMN", help="Parquet's column of image files (default: image)")
    group.add_argument("--label", metavar="COLUMN", help="Parquet's column of labels (default: label)")
    group.add_argument("--size", type=int, metavar="N", help="pixels, height and width that images are scaled to")
    words = "take the centre square of each image; --no-crop squeezes the whole (default: crop)"
    group.add_argument("--crop", action=argparse.BooleanOptionalAction, help=words)
    words = "whether a mirrored image is still one of its class (default: yes)"
    group.add_argument("--flip", action=argparse.BooleanOptionalAction, help=words)
    group.add_argument("--title", help="as tables print it (default: its name)")


def _defined(a: Namespace, out: Path) -> datasets.Dataset:
    """The dataset: one of one's own where options say what it is, or it was prepared before; else of daar's."""
    said = {key: value for key in definition.KEYS if (value := getattr(a, key)) is not None}
    if not said:
        return definition.recall(a.dataset, out) or datasets.get(a.dataset)
    where = f"dataset {documents.shown(a.dataset)}"
    validate(said, "suite", where, "See docs/adding-a-dataset.md.", part="dataset")
    return definition.define(a.dataset, said, where)


def prepare_data(a: Namespace) -> None:
    """`daar data prepare`."""
    from daar.data import loading

    out = a.out or Path(paths.PACKS) / a.dataset
    dataset = _defined(a, out)
    loading.prepare(
        dataset, out, data_root=a.data_root, source=a.source, download=a.download, verify=a.verify,
        skip_corrupt=a.skip_corrupt,
    )  # fmt: skip
    source = pack_files.read_source(out)
    how = f"index of the {source['kind']}" if dataset.stays_in_folder else f"packed from {source['kind']}"
    print(f"{dataset.title}: {how} at {source['where']} into {out}; {source['note']}")


def check_data(a: Namespace) -> None:
    """`daar data check`."""
    from daar.data import loading

    definition.recall(a.folder.absolute().name, a.folder)
    report = loading.check(a.folder)
    if a.json:
        print(json.dumps(asdict(report), indent=2))
        return
    print(f"{report.dataset}: {report.comparison}; from {report.source['kind']} at {report.source['where']}")
    for split, counts in report.counts.items():
        equal = len(set(counts.values())) == 1
        listed = [f"{documents.shown(name)} {count:,}" for name, count in counts.items()]
        several = (
            ", ".join(listed) if len(listed) <= 20 else f"{min(counts.values()):,} to {max(counts.values()):,} each"
        )
        per_class = f"{next(iter(counts.values())):,} of each class" if equal else several
        print(f"{split}: {sum(counts.values()):,} images ({per_class})")
    print(f"mean {_numbers(report.mean)}, std {_numbers(report.std)} (of pixels in 0..1, train part)")


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)
