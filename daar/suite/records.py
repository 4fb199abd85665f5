"""Read record.json, which a stranger may have written: checked by its schema and by its folder.

Imported while the DAG is built: neither torch nor numpy.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daar.errors import InputError
from daar.storage import documents
from daar.storage.schemas import validate
from daar.suite.definition import setting_path

RESULT_NEUTRAL = "reads records, or refuses them"

_REMEDY = "Delete the file and run the suite again."
_KEYS = ("dataset", "network", "seed", "variant", "policy", "scope", "target")


def read(file: Path, what: str = "a record of one setting") -> dict[str, Any]:
    """Read a record, wherever it lies.

    Args:
        file: record.json.
        what: what the file should be, for the message.

    Raises:
        InputError: it is absent, damaged, or breaks its schema.
    """
    record: dict[str, Any] = documents.read_json(file, what)
    validate(record, "record", str(file), _REMEDY)
    return record


def place(record: Mapping[str, Any]) -> str:
    """The folder of a record below its suite's; names in it are plain, as the schema has it."""
    return setting_path(*(record[key] for key in _KEYS))


def require_in_place(file: Path, record: Mapping[str, Any]) -> Path:
    """The folder of all results that a record belongs to: `<folder>/<suite>/<place>/record.json`.

    Raises:
        InputError: it lies elsewhere, as one that was moved or edited does.
    """
    tail = Path(record["suite"], place(record))
    folder = Path(file).resolve().parent
    if folder.parts[-len(tail.parts) :] != tail.parts:
        raise InputError(
            f"{file} should lie in results/{tail}, where its suite put it, but is in {folder}. Give the record in its "
            "results folder, or run the suite again."
        )
    return folder.parents[len(tail.parts) - 1]
