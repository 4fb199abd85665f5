"""Validate JSON and YAML documents by the schemas in workflow/schemas/."""

import functools
import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jsonschema
import yaml
from jsonschema.exceptions import best_match

from daar.errors import InputError
from daar.storage.bundled import SCHEMAS

RESULT_NEUTRAL = "refuses documents, changes none"


@functools.cache
def schema(name: str) -> dict[str, Any]:
    """The schema `workflow/schemas/<name>.schema.yaml`."""
    content: dict[str, Any] = yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text(encoding="utf-8"))
    return content


@functools.cache
def _validator(name: str) -> Any:
    """The validator of a schema; unlike plain JSON Schema it rejects NaN, infinities, and 1.0 as an integer."""
    base = jsonschema.Draft202012Validator
    kinds = base.TYPE_CHECKER.redefine_many({"number": _is_number, "integer": _is_integer})
    own = {"uniqueItems": _distinct}
    return jsonschema.validators.extend(base, own, type_checker=kinds)(schema(name))  # type: ignore[no-untyped-call]  # its stubs do not type it


def _is_number(_: Any, value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(_: Any, value: Any) -> bool:
    """Unlike JSON Schema's, without 1.0: such a seed names a path that is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _distinct(_: Any, wanted: bool, values: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    """`uniqueItems`, in linear time: jsonschema's own compares every two where types are mixed."""
    if not wanted or not isinstance(values, list):
        return
    texts = Counter(json.dumps(value, sort_keys=True) for value in values)
    if twice := [text for text, count in texts.items() if count > 1]:
        yield jsonschema.ValidationError(f"{twice[0]} comes twice")


def validate(content: Any, name: str, where: str, remedy: str) -> None:
    """Validate a document.

    Args:
        content: the document, of dicts, lists, strings and numbers.
        name: of the schema.
        where: of the document, for the message.
        remedy: what the user can do, a sentence.

    Raises:
        InputError: it is not valid; names the key, the value and what is allowed.
    """
    error = best_match(_validator(name).iter_errors(content))
    if error is None:
        return
    key = error.json_path.removeprefix("$").removeprefix(".") or f"the {name}"
    message = " ".join(error.message.split())
    message = message if len(message) <= 200 else f"{message[:100]} … {message[-100:]}"
    raise InputError(f"{where}: {key}: {message.rstrip('.')}{_hint(error)}. {remedy}")


def _hint(error: jsonschema.ValidationError) -> str:
    """Known keys, or the description of a value: what the validator's message leaves out."""
    assert isinstance(error.schema, dict)
    if error.validator == "additionalProperties":
        return f"; known keys are {', '.join(sorted(error.schema['properties']))}"
    if error.validator == "required":
        return ""
    meaning = str(error.schema.get("description", "")).rstrip(".")
    return f" (expected: {meaning})" if meaning else ""
