"""Hold JSON and YAML documents against the schemas in workflow/schemas/."""

import functools
from typing import Any

import jsonschema
import yaml
from jsonschema.exceptions import best_match

from daar.discovery import REPOSITORY
from daar.errors import InputError


@functools.cache
def schema(name: str) -> dict[str, Any]:
    """The schema `workflow/schemas/<name>.schema.yaml`."""
    return yaml.safe_load((REPOSITORY / "workflow" / "schemas" / f"{name}.schema.yaml").read_text(encoding="utf-8"))


def validate(content: Any, name: str, where: str) -> None:
    """Check a document.

    Args:
        content: the document, of dicts, lists, strings and numbers.
        name: of the schema.
        where: of the document, for the message.

    Raises:
        InputError: names the key, what is there and what is allowed.
    """
    error = best_match(jsonschema.Draft202012Validator(schema(name)).iter_errors(content))
    if error is None:
        return
    key = ".".join(map(str, error.absolute_path))
    message = error.message if len(error.message) < 200 else f"{error.message[:200]} …"
    known = ""
    if error.validator == "additionalProperties":
        known = f" Known keys: {', '.join(sorted(error.schema['properties']))}."
    raise InputError(f"{where}: {key + ': ' if key else ''}{message.rstrip('.')}.{known} See workflow/schemas/{name}.schema.yaml.")
