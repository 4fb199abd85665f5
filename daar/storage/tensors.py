"""Read safetensors files that others may have written: any bytes give tensors or one line."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors

from daar.errors import InputError, is_out_of_memory
from daar.storage import documents

RESULT_NEUTRAL = "reads what was stored, or refuses it"


class Contents(NamedTuple):
    """What a file holds.

    Attributes:
        tensors: by name, sorted.
        header: the JSON document in its metadata; None where none was asked for.
    """

    tensors: dict[str, Any]
    header: Any


def read(path: Path, what: str, remedy: str, *, framework: str = "pt", header: str = "") -> Contents:
    """Read a safetensors file.

    Args:
        path: the file.
        what: what the file should hold, for the message ("importances").
        remedy: what the user can do, a sentence.
        framework: whose tensors: `pt` or `np`.
        header: the key of its metadata that holds a JSON document; none where empty.

    Raises:
        InputError: there is no such file, it is none of safetensors, or lacks the document.
    """
    if not os.path.exists(path):  # noqa: PTH110  # Path's raises for names that cannot be one
        raise InputError(f"{path} should hold {what}, but there is no such file. {remedy}")
    documents.require_file(path, f"a file of {what}")
    try:
        with safetensors.safe_open(path, framework=framework) as file:
            text = (file.metadata() or {}).get(header, "")
            document = _parse(text, header, path, remedy) if header else None
            return Contents({name: file.get_tensor(name) for name in sorted(file.keys())}, document)
    except InputError:
        raise
    except Exception as error:  # types and shapes that a framework does not have raise nearly anything
        if is_out_of_memory(error):
            raise
        said = " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
        raise InputError(f"{path} should hold {what}, but it cannot be read: {said}. {remedy}") from error


def _parse(text: str, header: str, path: Path, remedy: str) -> Any:
    if not text:
        raise InputError(f"{path} should have {header!r} in its metadata, but has not. {remedy}")
    return documents.parse_json(text, f"{path}: {header!r} in its metadata", remedy)


def read_scores(path: Path, remedy: str, *, framework: str = "pt") -> dict[str, Any]:
    """Read importance.safetensors: layer → (c_out,) float32, finite; arguments as of `read`.

    Raises:
        InputError: as `read`; or names a tensor that is none of these.
    """
    tensors = read(path, "importances", remedy, framework=framework).tensors
    if not tensors:
        raise InputError(f"{path} should hold importances, but it holds no tensor. {remedy}")
    require(tensors, dict.fromkeys(tensors, ("float32", (None,))), path, remedy)
    for name, vector in tensors.items():
        # true of NaN and infinities, in both frameworks
        if odd := int((~(abs(vector) < math.inf)).sum()):
            raise InputError(f"{path}: {odd} of the scores of {name!r} are not finite. {remedy}")
    return tensors


def require(
    tensors: dict[str, Any], expected: Mapping[str, tuple[str, tuple[int | None, ...]]], path: Path, remedy: str
) -> None:
    """Check names, types and shapes of the tensors of a file.

    Args:
        tensors: by name.
        expected: name → type, as both frameworks spell it ("uint8"), and shape; None is any length.
        path: the file.
        remedy: what the user can do, a sentence.

    Raises:
        InputError: names the tensor, what it should be and what it is.
    """
    if odd := sorted(set(tensors) ^ set(expected)):
        missing = odd[0] in expected
        raise InputError(f"{path} should {'' if missing else 'not '}hold a tensor {odd[0]!r}. {remedy}")
    for name, (kind, shape) in expected.items():
        got, dtype = tuple(tensors[name].shape), str(tensors[name].dtype).removeprefix("torch.")
        fits = len(got) == len(shape) and all(size in (None, one) for one, size in zip(got, shape, strict=True))
        if dtype != kind or not fits:
            sizes = ", ".join("any" if size is None else str(size) for size in shape)
            raise InputError(f"{path}: {name!r} should be {kind} ({sizes}), but is {dtype} {got}. {remedy}")
