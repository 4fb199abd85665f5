"""Whether a document is surely valid by a schema, in an eighth of jsonschema's time; that one says what is wrong.

It knows the keywords of JSON Schema that workflow/schemas has; under any other, nothing is surely valid. It may be
wrong in one way alone: a document that jsonschema would accept is not surely valid.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

RESULT_NEUTRAL = "accepts documents, changes none"

Check = Callable[[Any], bool]

# exact ones, so that neither True nor 1.0 is an integer
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
_SAYS_NOTHING = {"$schema", "title", "description", "$defs"}
# keyword → those that are looked at with it
_TOGETHER = {
    "type": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "properties": ("required", "additionalProperties"),
    "then": ("if",),  # what is `then` is valid whether or not it is `if`
}


def compiled(part: Any, definitions: Mapping[str, Any]) -> Check:
    """A function that says of a value whether it is surely valid.

    Args:
        part: a schema.
        definitions: what its `$ref`s name.
    """
    if not isinstance(part, Mapping):
        return lambda _: part is True
    keywords = part.keys() - _SAYS_NOTHING
    for first, others in _TOGETHER.items():
        if first in keywords:
            keywords -= set(others)
    if not keywords <= _KEYWORDS.keys():
        return lambda _: False
    checks = [_KEYWORDS[keyword](part, definitions) for keyword in sorted(keywords, reverse=True)]  # `type` first
    return checks[0] if len(checks) == 1 else lambda value: all(check(value) for check in checks)


def _type(part: Any, _: Any) -> Check:
    """The type, and of numbers that they are finite and within limits."""
    named = [part["type"]] if isinstance(part["type"], str) else part["type"]
    types = frozenset(kind for name in named for kind in _TYPES[name])
    if not types & {int, float}:
        return lambda value: type(value) in types
    numbers = types & {int, float}
    low, high = part.get("minimum", -math.inf), part.get("maximum", math.inf)
    above, below = part.get("exclusiveMinimum", -math.inf), part.get("exclusiveMaximum", math.inf)

    def check(value: Any) -> bool:
        kind = type(value)
        return (low <= value <= high and above < value < below) if kind in numbers else kind in types

    return check


def _properties(part: Any, definitions: Mapping[str, Any]) -> Check:
    """Those named, those required, and all others."""
    checks = {name: compiled(one, definitions) for name, one in part["properties"].items()}
    required, other = set(part.get("required", ())), compiled(part.get("additionalProperties", True), definitions)

    def check(value: Any) -> bool:
        if type(value) is not dict:
            return True
        if not value.keys() >= required:
            return False
        return all(checks.get(name, other)(one) for name, one in value.items())

    return check


def _only_dict(check: Check) -> Check:
    return lambda value: type(value) is not dict or check(value)


def _only_list(check: Check) -> Check:
    return lambda value: type(value) is not list or check(value)


def _only_str(check: Check) -> Check:
    return lambda value: type(value) is not str or check(value)


def _additional(part: Any, definitions: Mapping[str, Any]) -> Check:
    check = compiled(part["additionalProperties"], definitions)
    return _only_dict(lambda value: all(map(check, value.values())))


def _property_names(part: Any, definitions: Mapping[str, Any]) -> Check:
    check = compiled(part["propertyNames"], definitions)
    return _only_dict(lambda value: all(map(check, value)))


def _items(part: Any, definitions: Mapping[str, Any]) -> Check:
    check, first = compiled(part["items"], definitions), len(part.get("prefixItems", ()))
    return _only_list(lambda value: all(map(check, value[first:])))


def _prefix_items(part: Any, definitions: Mapping[str, Any]) -> Check:
    checks = [compiled(one, definitions) for one in part["prefixItems"]]
    return _only_list(lambda value: all(check(one) for check, one in zip(checks, value, strict=False)))


def _any_of(part: Any, definitions: Mapping[str, Any]) -> Check:
    checks = [compiled(one, definitions) for one in part["anyOf"]]
    return lambda value: any(check(value) for check in checks)


def _enum(values: list[Any]) -> Check:
    return lambda value: any(type(value) is type(one) and value == one for one in values)


def _unique(value: list[Any]) -> bool:
    """Of texts, or of integers; what else a list may have is for jsonschema to compare."""
    return {type(one) for one in value} in ({str}, {int}, set()) and len(set(value)) == len(value)


def _at_least(part: Any, keyword: str) -> Check:
    return lambda value: len(value) >= part[keyword]


def _at_most(part: Any, keyword: str) -> Check:
    return lambda value: len(value) <= part[keyword]


# keyword → what makes its check of the schema that has it and of the definitions
_KEYWORDS: dict[str, Callable[[Any, Mapping[str, Any]], Check]] = {
    "type": _type,
    "properties": _properties,
    "additionalProperties": _additional,
    "propertyNames": _property_names,
    "items": _items,
    "prefixItems": _prefix_items,
    "anyOf": _any_of,
    "$ref": lambda part, definitions: compiled(definitions[part["$ref"].removeprefix("#/$defs/")], definitions),
    "then": lambda part, definitions: compiled(part["then"], definitions),
    "required": lambda part, _: _only_dict(lambda value: all(name in value for name in part["required"])),
    "enum": lambda part, _: _enum(part["enum"]),
    "const": lambda part, _: _enum([part["const"]]),
    "pattern": lambda part, _: _only_str(lambda value: re.search(part["pattern"], value) is not None),
    "uniqueItems": lambda _part, _: _only_list(_unique),
    "minLength": lambda part, _: _only_str(_at_least(part, "minLength")),
    "maxLength": lambda part, _: _only_str(_at_most(part, "maxLength")),
    "minItems": lambda part, _: _only_list(_at_least(part, "minItems")),
    "maxItems": lambda part, _: _only_list(_at_most(part, "maxItems")),
    "minProperties": lambda part, _: _only_dict(_at_least(part, "minProperties")),
    "maxProperties": lambda part, _: _only_dict(_at_most(part, "maxProperties")),
}
