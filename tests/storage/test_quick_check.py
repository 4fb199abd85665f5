"""What is surely valid is valid by jsonschema too, for every schema and documents with every kind of mistake."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from daar.errors import InputError
from daar.storage import quick_check, schemas
from daar.storage.bundled import ROOT, SCHEMAS

NAMES = sorted(path.name.removesuffix(".schema.yaml") for path in SCHEMAS.glob("*.schema.yaml"))
KEPT = ROOT / "results" / "reference"
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 1.0, -0.5, 0.5, 101, 2**63, 10**30, 1e308, float("nan"), float("inf"), -float("inf"),
    "", "x", "x" * 2000, "a/b", ".", "0123456789ab", "\n", [], [1, 1], [1, 1.0], ["a", "a"], [[]], {}, {"x": 1},
]  # fmt: skip


def documents(name: str) -> list[Any]:
    """Valid ones that daar has written, or that come with it."""
    patterns = {
        "record": "*/**/record.json", "plan": "*/**/plan.json", "model": "dense/**/model.json",
        "measured": "dense/**/measured.json", "carried": "*/carried.json", "stability": "*/**/stability*.json",
    }  # fmt: skip
    if name == "suite":
        return [yaml.safe_load(path.read_text()) for path in (ROOT / "workflow" / "config").glob("*.yaml")]
    if name in ("recipe", "published_ratios"):
        folder = ROOT / "workflow" / "resources" / {"recipe": "recipes"}.get(name, name)
        return [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]
    return [json.loads(path.read_text()) for path in sorted(KEPT.glob(patterns.get(name, "none")))[:3]]


def mutations(document: Any, dice: random.Random, count: int) -> Iterator[Any]:
    """Copies of a document, each with one change anywhere."""
    for _ in range(count):
        made = copy.deepcopy(document)
        places = list(containers(made))
        place = dice.choice(places)
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        change = dice.choice(["value", "value", "value", "delete", "add"]) if keys else "add"
        if change == "add":
            value = dice.choice(ODD)
            place.update({"another": value}) if isinstance(place, dict) else place.append(value)
        elif change == "delete":
            del place[dice.choice(keys)]
        else:
            place[dice.choice(keys)] = copy.deepcopy(dice.choice(ODD))
        yield made


def containers(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for part in value.values() if isinstance(value, dict) else value:
            yield from containers(part)


def is_valid(content: Any, name: str) -> bool:
    try:
        return bool(schemas._validator(name, None).is_valid(content))
    except OverflowError:  # math.isfinite of an integer that no float can be
        return False


@pytest.mark.parametrize("name", NAMES)
def test_what_is_surely_valid_is_valid(name: str) -> None:
    check, dice = schemas._quick(name, None), random.Random(name)
    accepted = 0
    for document in [*documents(name), {}, []]:
        for made in mutations(document, dice, 150):
            if check(made):
                assert is_valid(made, name), made
                accepted += 1
    assert accepted or not documents(name)


@pytest.mark.parametrize("name", ["record", "plan", "model", "measured", "suite", "recipe", "published_ratios"])
def test_what_is_read_often_is_surely_valid_when_it_is_valid(name: str) -> None:
    """Else it would be right, and slow."""
    check = schemas._quick(name, None)
    assert documents(name)
    assert all(check(document) for document in documents(name))


@pytest.mark.parametrize("name", NAMES)
def test_schemas_have_no_keyword_that_json_schema_has_not(name: str) -> None:
    """As an unquoted comma in a description makes one, which jsonschema ignores."""
    known = {*jsonschema.Draft202012Validator.VALIDATORS, "$schema", "$defs", "title", "description", "then"}
    waiting: list[dict[str, Any]] = [schemas.schema(name)]
    while waiting:
        part = waiting.pop()
        assert known >= part.keys()
        for keyword in ("properties", "$defs"):
            waiting += [one for one in part.get(keyword, {}).values() if isinstance(one, dict)]
        waiting += [
            part[key] for key in ("items", "additionalProperties", "then", "if") if isinstance(part.get(key), dict)
        ]


@pytest.mark.parametrize(
    "part", [{"minimum": 1}, {"type": "object", "patternProperties": {}}, {"properties": {"a": {"not": {}}}}]
)
def test_an_unknown_keyword_makes_nothing_sure(part: dict[str, Any]) -> None:
    assert not quick_check.compiled(part, {})({"a": 1})


def test_an_unknown_keyword_of_what_is_absent_matters_nothing() -> None:
    assert quick_check.compiled({"properties": {"a": {"not": {}}}}, {})({"b": 1})


@pytest.mark.parametrize(
    ("part", "valid", "invalid"),
    [
        ({"type": "integer"}, [0, 2**80], [True, 1.0, "1", None]),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, [1, 0.5], [0, 0.0, 1.5, True, float("nan")]),
        ({"type": ["number", "null"]}, [None, 3, -2.5], [float("inf"), float("nan"), False]),
        ({"const": 1}, [1], [True, 1.0, 2]),
        ({"enum": ["a", None]}, ["a", None], ["b", 0, False]),
        ({"type": "string", "pattern": r"\Aa", "maxLength": 2}, ["a", "ab"], ["ba", "abc", "\na"]),
        ({"uniqueItems": True, "minItems": 1}, [[1, 2], ["a"], "text"], [[], [1, 1], [1, 1.0], [True, 1]]),
        ({"propertyNames": {"maxLength": 1}, "maxProperties": 1}, [{}, {"a": 1}], [{"ab": 1}, {"a": 1, "b": 1}]),
        ({"additionalProperties": {"type": "string"}}, [{}, {"a": "b"}], [{"a": 1}]),
        ({"properties": {"a": True}, "additionalProperties": False}, [{}, {"a": 1}], [{"b": 1}]),
        ({"anyOf": [{"$ref": "#/$defs/one"}, {"type": "null"}]}, [7, None], [8, "7"]),
        ({"prefixItems": [{"const": 1}], "items": {"const": 2}}, [[], [1], [1, 2, 2]], [[2], [1, 1], [1, 2, 3]]),
        ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, [{"b": 1}], [{}, {"a": 1}]),
    ],
)
def test_each_keyword(part: dict[str, Any], valid: list[Any], invalid: list[Any]) -> None:
    check = quick_check.compiled(part, {"one": {"const": 7}})
    assert all(map(check, valid))
    assert not any(map(check, invalid))


def test_a_mistake_is_still_told_by_name(tmp_path: Path) -> None:
    record = documents("record")[0]
    record["macs"]["slim"] = 1.0
    with pytest.raises(InputError, match=r"x: macs\.slim: 1\.0 is not of type 'integer'"):
        schemas.validate(record, "record", "x", "Run again.")
