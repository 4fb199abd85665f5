"""Scan a folder of images, `<root>/{train,val}/<class>/<image>`: any content gives a list of files or one line.

Classes and labels are those of torchvision's ImageFolder: folders, also by links, in the order of their names. Hidden
entries, and files that are no images by their ending, are passed over. A folder within a class's folder is refused:
whether its images belong to the class, nobody knows. Names may be any bytes; those that are no UTF-8 are texts with
surrogates here, as everywhere in Python.
"""

import os
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from daar.errors import InputError
from daar.storage.documents import shown

PARTS = ("train", "val")
ENDINGS = (".jpeg", ".jpg", ".png", ".bmp", ".webp")
_NAMED = 3


@dataclass(frozen=True, slots=True)
class File:
    """An image file.

    Attributes:
        path: relative to the root.
        label: of its class.
        bytes: its size; 0 of what is no regular file, such as a link to nothing.
    """

    path: str
    label: int
    bytes: int


def classes(root: Path) -> list[str]:
    """Names of the classes, in label order.

    Raises:
        InputError: a part is no folder, or cannot be read; a link in it leads nowhere; the parts have other classes; or
            there are fewer than two.
    """
    names = {part: _classes_of(root / part) for part in PARTS}
    for part, other in (PARTS, PARTS[::-1]):
        if missing := sorted(names[other] - names[part]):
            alike = {_folded(name) for name in names[part] - names[other]} & {_folded(name) for name in missing}
            hint = " Some differ only in case or Unicode normalisation." if alike else ""
            raise InputError(
                f"{shown(root / part)} lacks {len(missing):,} of the classes that {shown(root / other)} has: "
                f"{listed(missing)}.{hint} Complete it, or remove them from both."
            )
    if len(names["train"]) < 2:
        raise InputError(f"{shown(root / 'train')} should hold two classes or more, but holds {len(names['train'])}.")
    return sorted(names["train"])


def scan(root: Path, part: str, names: list[str]) -> Iterator[File]:
    """The images of a part, class by class.

    Args:
        root: the folder.
        part: train or val.
        names: of the classes, in label order.

    Raises:
        InputError: a class has no image, holds a folder, or cannot be read.
    """
    for label, name in enumerate(names):
        for file, size in of_class(root / part / name):
            yield File(f"{part}/{name}/{file}", label, size)


def of_class(
    folder: Path, endings: tuple[str, ...] = ENDINGS, front: str = "", passed_over: list[str] | None = None
) -> Iterator[tuple[str, int]]:
    """The images of a class in the folder's own order: name, and size in bytes.

    Args:
        folder: of the class.
        endings: of files that are images.
        front: begins a message.
        passed_over: gets the paths of files that are no images by their names.

    Raises:
        InputError: there is no image, or a folder among them.
    """
    count = 0
    with entries(folder) as there:
        for entry in there:
            if entry.name.startswith("."):
                continue
            if is_folder(entry):
                raise InputError(
                    f"{front}{shown(folder / entry.name)} is a folder within that of a class; images lie directly in "
                    "their class's. Move its images there, or remove it."
                )
            if entry.name.lower().endswith(endings):
                count += 1
                yield entry.name, size_of(entry)
            elif passed_over is not None:
                passed_over.append(str(folder / entry.name))
    if not count:
        raise InputError(f"{front}{shown(folder)} has no images ({', '.join(endings)}). Fill it, or remove the class.")


def listed(names: list[str]) -> str:
    """Names for a message, in one line; only the first ones of many."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(shown(name) for name in sorted(names)[:_NAMED]) + more


def text_of(name: str) -> str:
    """A file's name as text that UTF-8 has: other bytes become hexadecimal escapes, and backslashes are doubled."""
    return os.fsencode(name).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def _classes_of(part: Path) -> set[str]:
    """Names of the folders in a part."""
    if not os.path.isdir(part):  # noqa: PTH112  # Path's raises where nobody may look
        raise InputError(f"{shown(part)} should hold a folder for each class, but is no folder. Complete it.")
    return folders(part)


def folders(part: Path) -> set[str]:
    """Names of the folders in a folder; of its other entries only links to nothing matter: a class may be lost there.

    Raises:
        InputError: a link leads nowhere, or the folder cannot be read.
    """
    found = set()
    with entries(part) as there:
        for entry in there:
            if entry.name.startswith("."):
                continue
            if is_folder(entry):
                found.add(entry.name)
            elif entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110  # as above
                raise InputError(f"{shown(Path(entry.path))} is a link that leads nowhere. Mend it, or remove it.")
    return found


@contextmanager
def entries(folder: Path) -> Iterator[Iterator["os.DirEntry[str]"]]:
    """The entries of a folder; InputError where it cannot be read."""
    try:
        with os.scandir(folder) as there:
            yield there
    except OSError as error:
        raise InputError(
            f"{shown(folder)} cannot be read ({error.strerror}). Give access to it, or remove it."
        ) from error


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def size_of(entry: "os.DirEntry[str]") -> int:
    """Size in bytes of a regular file; opening anything else could take for ever."""
    try:
        about = entry.stat()
    except OSError:
        return 0
    return about.st_size if stat.S_ISREG(about.st_mode) else 0


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
