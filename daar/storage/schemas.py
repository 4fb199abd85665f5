"""Validate JSON and YAML documents by the schemas in workflow/schemas/."""

import functools
import math
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
    """The validator of a schema; unlike plain JSON Schema it rejects NaN and infinities."""
    base = jsonschema.Draft202012Validator
    numbers = base.TYPE_CHECKER.redefine(
        "number", lambda _, value: base.TYPE_CHECKER.is_type(value, "number") and math.isfinite(value)
    )
    return jsonschema.validators.extend(base, type_checker=numbers)(schema(name))  # type: ignore[no-untyped-call]  # its stubs do not type it


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
