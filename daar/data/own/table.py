"""Reads a dataset of one's own from Parquet files with a column of images and one of labels.

A file, or a folder of `train*.parquet` with `val*` or `test*`, or of files with any names, which are then one part.
Images are the bytes of image files, alone or as Hugging Face's struct; labels are whole numbers or texts.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daar.data.own.folder import PARTS, WHOLE
from daar.errors import InputError, in_one_line, said
from daar.storage.documents import require_file, shown

_LONGEST = 255  # characters of a class's name
_MOST_CLASSES = 100_000


@dataclass(frozen=True)
class Columns:
    """Names of the columns.

    Attributes:
        image: of the images.
        label: of the labels.
    """

    image: str = "image"
    label: str = "label"


def files(place: Path, where: str) -> dict[str, list[Path]]:
    """Part → its files; a single part is WHOLE.

    Raises:
        InputError: there are none, or parts are lacking.
    """
    if place.is_file():
        return {WHOLE: [place]}
    there = sorted(place.glob("*.parquet")) if place.is_dir() else []
    if not there:
        what = "holds no *.parquet" if place.is_dir() else "is not there"
        raise InputError(f"{where}: {shown(place)} {what}. Name a Parquet file, or a folder of such.")
    parts = {part: [file for file in there if file.name.startswith(part)] for part in PARTS}
    parts = {part: found for part, found in parts.items() if found}
    if "train" not in parts:
        return {WHOLE: there}
    if len(parts) == 1:
        raise InputError(
            f"{where}: {shown(place)} has train*.parquet, but neither val*.parquet nor test*.parquet. Add one, or name "
            "the file, which is then split by hash."
        )
    return parts


def labels(parts: dict[str, list[Path]], columns: Columns, where: str) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """Names of the classes, and part → the labels of its rows, without reading an image.

    Raises:
        InputError: a file cannot be read, a column is absent or of another type, or a label is null or none.
    """
    values = {
        part: [value for file in found for value in _column(file, columns, where)] for part, found in parts.items()
    }
    distinct = {value for part in values.values() for value in part}
    if not distinct:
        first = next(iter(parts.values()))[0]
        raise InputError(f"{where}: {shown(first)} has no rows; expected an image and a label in each. Name another.")
    if len({type(value) for value in distinct}) > 1:
        raise InputError(
            f"{where}: column {shown(columns.label)} has whole numbers in one file and texts in another; expected one "
            "of the two. Convert one."
        )
    named = _names(next(iter(parts.values()))[0], columns.label)
    if named is not None and isinstance(next(iter(distinct)), int):
        if outside := sorted(value for value in distinct if not 0 <= value < len(named)):
            raise InputError(
                f"{where}: column {shown(columns.label)} has {outside[0]}, but its metadata names {len(named)} "
                f"classes, 0 to {len(named) - 1}. Take out the rows without a class."
            )
        return named, values
    ordered = sorted(distinct)
    if len(ordered) > _MOST_CLASSES or any(len(str(value)) > _LONGEST for value in ordered):
        raise InputError(
            f"{where}: column {shown(columns.label)} has {len(ordered):,} values; expected {_MOST_CLASSES:,} classes "
            f"at most, named with {_LONGEST} characters at most. Name another column."
        )
    numbers = {value: number for number, value in enumerate(ordered)}
    return tuple(map(str, ordered)), {part: [numbers[value] for value in found] for part, found in values.items()}


def images(file: Path, columns: Columns) -> Iterator[tuple[str, bytes | None]]:
    """The image files of a Parquet file, each with what a message calls it.

    Raises:
        InputError: a part of the file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    try:
        for batch in pq.ParquetFile(file).iter_batches(256, columns=[columns.image]):
            column = batch.column(0)
            if pa.types.is_struct(column.type):
                column = column.field("bytes")
            for encoded in column.to_pylist():
                yield f"{shown(file)}, row {row} (from 0)", encoded
                row += 1
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error


def _column(file: Path, columns: Columns, where: str) -> list[Any]:
    """The labels of a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_file(file, "a Parquet file")
    try:
        schema = pq.read_schema(file)
        _require_columns(schema, columns, f"{where}: {shown(file)}")
        table = pq.read_table(file, columns=[columns.label], partitioning=None)
        values: list[Any] = table.column(columns.label).to_pylist()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where}: {shown(file)}: column {shown(columns.label)} has a text that is not UTF-8. Write it again."
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error, f"{where}: ") from error
    for row, value in enumerate(values):
        if value is None:
            raise InputError(f"{where}: {shown(file)}, row {row} (from 0): {shown(columns.label)} is null. Correct it.")
    return values


def _unreadable(file: Path, error: Exception, where: str = "") -> InputError:
    return InputError(
        f"{where}{shown(file)} cannot be read as Parquet: {in_one_line(said(error))}. Fetch it again, or write it "
        "again."
    )


def _require_columns(schema: Any, columns: Columns, where: str) -> None:
    import pyarrow as pa

    for what, name in (("image", columns.image), ("label", columns.label)):
        if (number := schema.names.count(name)) > 1:
            raise InputError(f"{where} has {number} columns '{shown(name)}'; expected one. Rename the others.")
        if not number:
            raise InputError(
                f"{where} has no column '{shown(name)}', but {_listed(schema)}. Name that of the {what}s: {what} in a "
                f"suite, --{what} of a command."
            )
    kind = schema.field(columns.image).type
    if pa.types.is_struct(kind) and "bytes" in kind.names:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(
            f"{where}: column {shown(columns.image)} is {shown(str(kind))}; expected bytes of image files, alone or in "
            "a struct as Hugging Face has them. Convert it, or name another."
        )
    kind = schema.field(columns.label).type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(
            f"{where}: column {shown(columns.label)} is {shown(str(kind))}; expected whole numbers or texts. Name "
            "another."
        )


def _listed(schema: Any) -> str:
    """The names of the columns, for a message."""
    return in_one_line(", ".join(schema.names) or "none at all", 280)


def _names(file: Path, label: str) -> tuple[str, ...] | None:
    """The names that Hugging Face's metadata has for a column's numbers: texts, each another; None without such."""
    import pyarrow.parquet as pq

    # they are optional, like every key on the way to them
    with suppress(KeyError, TypeError, ValueError, RecursionError):
        features = json.loads(pq.read_schema(file).metadata[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
        right = isinstance(names, list) and 1 < len(names) == len(set(names)) <= _MOST_CLASSES
        if right and all(isinstance(name, str) and len(name.encode()) <= _LONGEST for name in names):
            return tuple(names)
    return None
