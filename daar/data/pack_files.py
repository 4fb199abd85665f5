"""Names of a prepared dataset's files: one per split, and a note on the images' source. Imports nothing heavy."""

from pathlib import Path
from typing import Any

from daar.errors import InputError
from daar.storage import documents
from daar.storage.schemas import validate

RESULT_NEUTRAL = "says where files lie, not what is in them"

SPLITS = ("train", "val", "test")
SOURCE = "source.json"
_AGAIN = "Make it again with `daar data prepare`."


def split_file(folder: Path | str, split: str) -> Path:
    """The file of a split, packed images or an index of them, in the folder of a prepared dataset."""
    return Path(folder) / f"{split}.safetensors"


def read_source(folder: Path) -> dict[str, Any]:
    """Read the note on where the images of a prepared dataset came from.

    Raises:
        InputError: it is absent, damaged, or breaks its schema.
    """
    path = Path(folder) / SOURCE
    source: dict[str, Any] = documents.read_json(path, "the note on where a dataset's images came from")
    validate(source, "source", str(path), _AGAIN)
    return source


def require_header(header: Any, path: Path, newest: int) -> None:
    """Check what the header of a split says, packed or indexed.

    Args:
        header: the document.
        path: of the split, for the message.
        newest: version that this code reads.

    Raises:
        InputError: it is of a newer version, or breaks its schema.
    """
    version = header.get("version") if isinstance(header, dict) else None
    if isinstance(version, int) and version > newest:
        raise InputError(
            f"{path} is in format {version}; this version of daar reads up to {newest}. Update daar, or make the file "
            "again with this one."
        )
    validate(header, "pack", str(path), _AGAIN)


def require_labels(least: int, most: int, classes: int, path: Path) -> None:
    """InputError if the labels of a split, from `least` to `most`, are not those of its classes."""
    if least < 0 or most >= classes:
        raise InputError(
            f"{path}: labels should be from 0 to {classes - 1}, one for each class, but are from {least} to {most}. "
            f"{_AGAIN}"
        )
