"""Validate JSON and YAML documents by the schemas in workflow/schemas/."""

import functools
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import yaml

from daar.errors import InputError, in_one_line
from daar.storage import documents, quick_check
from daar.storage.bundled import SCHEMAS

if TYPE_CHECKING:  # for what is wrong alone: it takes as long to import as all else here
    import jsonschema

RESULT_NEUTRAL = "refuses documents, changes none"

# of the errors of a document, those that the message is chosen from; a long list may have one for every entry
_MOST_ERRORS = 100


@functools.cache
def schema(name: str) -> dict[str, Any]:
    """The schema `workflow/schemas/<name>.schema.yaml`."""
    text = (SCHEMAS / f"{name}.schema.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.load(text, Loader=documents.SafeLoader)
    return content


def _part(name: str, part: str | None) -> dict[str, Any]:
    whole = schema(name)
    return whole if part is None else {"$ref": f"#/$defs/{part}", "$defs": whole["$defs"]}


@functools.cache
def _quick(name: str, part: str | None) -> quick_check.Check:
    """Whether a document is surely valid."""
    content = _part(name, part)
    return quick_check.compiled(content, content.get("$defs", {}))


@functools.cache
def _validator(name: str, part: str | None) -> Any:
    """The validator of a schema; unlike plain JSON Schema it rejects NaN, infinities, and 1.0 as an integer."""
    import jsonschema

    base = jsonschema.Draft202012Validator
    kinds = base.TYPE_CHECKER.redefine_many({"number": _is_number, "integer": _is_integer})
    own = {"uniqueItems": _distinct}
    return jsonschema.validators.extend(base, own, type_checker=kinds)(_part(name, part))  # type: ignore[no-untyped-call]  # its stubs do not type it


def _is_number(_: Any, value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(_: Any, value: Any) -> bool:
    """Unlike JSON Schema's, without 1.0: such a seed names a path that is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _distinct(_: Any, wanted: bool, values: Any, __: Any) -> Iterator["jsonschema.ValidationError"]:
    """`uniqueItems`, in linear time: jsonschema's own compares every two where types are mixed."""
    import jsonschema

    if not wanted or not isinstance(values, list):
        return
    texts = Counter(json.dumps(value, sort_keys=True) for value in values)
    if twice := [text for text, count in texts.items() if count > 1]:
        yield jsonschema.ValidationError(f"{twice[0]} comes twice")


def validate(content: Any, name: str, where: str, remedy: str, *, part: str | None = None) -> None:
    """Validate a document.

    Args:
        content: the document, of dicts, lists, strings and numbers.
        name: of the schema.
        where: of the document, for the message.
        remedy: what the user can do, a sentence.
        part: a definition of the schema that the document is, such as `recipe`; None for the whole.

    Raises:
        InputError: it is not valid; names the key, the value and what is allowed.
    """
    if _quick(name, part)(content):
        return
    from jsonschema.exceptions import best_match

    error = best_match(itertools.islice(_validator(name, part).iter_errors(content), _MOST_ERRORS))
    if error is None:
        return
    key = error.json_path.removeprefix("$").removeprefix(".") or f"the {part or name}"
    message = f"{_worded(error).rstrip('.')}{_hint(error)}"
    raise InputError(f"{where}: {_short(key)}: {message}. {remedy}")


def _worded(error: "jsonschema.ValidationError") -> str:
    """The validator's message in one short line."""
    counted = {"maxItems": "entries", "maxProperties": "entries", "maxLength": "characters"}
    if error.validator in counted:
        assert isinstance(error.instance, list | dict | str)
        return f"it has {len(error.instance):,} {counted[error.validator]}, but {error.validator_value:,} at most"
    return _short(error.message)


def _short(text: str) -> str:
    return in_one_line(" ".join(text.split()))


def _hint(error: "jsonschema.ValidationError") -> str:
    """Known keys, or the description of a value: what the validator's message leaves out."""
    assert isinstance(error.schema, dict)
    if error.validator == "additionalProperties":
        return f"; known keys are {', '.join(sorted(error.schema['properties']))}"
    if error.validator == "required":
        return ""
    meaning = str(error.schema.get("description", "")).rstrip(".")
    return f" (expected: {meaning})" if meaning else ""
