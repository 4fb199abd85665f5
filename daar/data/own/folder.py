"""Finds the images of a folder of one's own: any content gives a list of files, or one line that says what it is.

`<folder>/<class>/<image>`, or `<folder>/{train,val,test}/<class>/<image>` with train and one or both of the others.
Hidden entries, and files that are no images by their ending, are passed over.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from daar.data.folder_scan import entries, folders, listed, of_class, text_of
from daar.errors import InputError
from daar.storage.documents import shown

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
PARTS = ("train", "val", "test")
# the name of the only part, where a folder has no train, val or test
WHOLE = "all"
_LAYOUT = "It should hold a folder of images for each class, or train/ with val/ or test/ that do."


@dataclass(frozen=True)
class Folder:
    """What a folder holds.

    Attributes:
        classes: names, in label order.
        parts: part → its files: path below the folder, label, size in bytes. A single part is WHOLE.
        passed_over: files that are no images by their ending.
    """

    classes: tuple[str, ...]
    parts: dict[str, list[tuple[str, int, int]]]
    passed_over: list[str] = field(default_factory=list)


def scan(root: Path, where: str) -> Folder:
    """Find all images.

    Args:
        root: the folder.
        where: begins the message: which dataset it is.

    Raises:
        InputError: it is no folder, holds no images, one class, folders in classes, or parts that do not go together.
    """
    if not os.path.isdir(root):  # noqa: PTH112  # Path's raises where nobody may look
        what = "is no folder" if os.path.exists(root) else "is not there"  # noqa: PTH110  # as above
        raise InputError(f"{where}: {shown(root)} {what}. {_LAYOUT}")
    parts = _parts(root, where)
    _require_same({part: folders(folder) for part, folder in parts.items()}, parts, where)
    found = Folder(tuple(_classes(next(iter(parts.values())), where)), {})
    labels = {name: label for label, name in enumerate(found.classes)}
    for part, folder in parts.items():
        found.parts[part] = [
            (str(Path(name, file).relative_to(root)), labels[name.name], size)
            for name in (folder / one for one in found.classes)
            for file, size in sorted(of_class(name, ENDINGS, f"{where}: ", found.passed_over))
        ]
    return Folder(tuple(text_of(name) for name in found.classes), found.parts, found.passed_over)


def _parts(root: Path, where: str) -> dict[str, Path]:
    """Part → its folder."""
    names = folders(root)
    there = [part for part in PARTS if part in names]
    if "train" not in names or not folders(root / "train"):
        if there and not names - set(PARTS) and any(folders(root / part) for part in there):
            raise InputError(f"{where}: {shown(root)} has {' and '.join(there)}, but no train. {_LAYOUT}")
        return {WHOLE: root}
    if others := sorted(names - set(PARTS)):
        raise InputError(
            f"{where}: {shown(root)} holds train and next to it {listed(others)}, which is no part (train, val, test). "
            "Move it elsewhere."
        )
    if there == ["train"]:
        raise InputError(
            f"{where}: {shown(root)} has train, but neither val nor test. Add one, or name {shown(root / 'train')}, "
            "which is then split by hash."
        )
    return {part: root / part for part in there}


def _classes(folder: Path, where: str) -> list[str]:
    """Names of the classes of a part, sorted."""
    names = sorted(folders(folder))
    if len(names) > 1:
        return names
    if not names:
        with entries(folder) as there:
            count = sum(entry.name.lower().endswith(ENDINGS) for entry in there)
        what = f"{count:,} images, but no folders of classes" if count else "no images"
        raise InputError(f"{where}: {shown(folder)} holds {what}. {_LAYOUT}")
    if folders(folder / names[0]):
        raise InputError(
            f"{where}: {shown(folder)} holds one folder, {shown(names[0])}, with folders in it. If those are the "
            f"classes, name {shown(folder / names[0])} instead."
        )
    raise InputError(f"{where}: {shown(folder)} has one class, {shown(names[0])}; expected two or more. Add another.")


def _require_same(names: dict[str, set[str]], parts: dict[str, Path], where: str) -> None:
    """InputError where the parts have different classes."""
    known = names[next(iter(parts))]
    for part, folder in parts.items():
        for other in sorted(known ^ names[part]):
            lacking, having = (folder, parts["train"]) if other in known else (parts["train"], folder)
            raise InputError(
                f"{where}: {shown(lacking)} lacks the class {shown(other)}, which {shown(having)} has. Complete it, or "
                "remove the class from both."
            )
