"""--recipe and --options: whatever they are given, there are settings or one line."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daar.cli import arguments, options
from daar.errors import InputError
from daar.training.recipe import Recipe


def parsed(add: Callable[[Any], None], *given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add(parser)
    return parser.parse_args(given)


def recipe(text: str) -> Recipe:
    return arguments.recipe(parsed(options.add_recipe, f"--recipe={text}"), Recipe())


BROKEN = {
    "twice": (b'{"epochs": 1, "epochs": 2}', "the key 'epochs' comes twice"),
    "date": (b"epochs: 2024-13-45", "has a date"),
    "digits": (b"epochs: " + b"9" * 5000, "a number of 5,000 characters"),
    "large": (b"epochs: 1" + b"0" * 30, "an integer of more than 64 bits"),
    "larger": (b"epochs: 10000000", "epochs: 10000000 is greater than the maximum of 1000000"),
    "float": (b"epochs: 1.0", "epochs: 1.0 is not of type 'integer' .*an integer, 0 to 1,000,000"),
    "true": (b"lr: true", "lr: True is not of type 'number'"),
    "alias": (b"epochs: &a [*a]", "contains itself"),
    "nested": (b"[" * 3000, "nested more than 64 deep"),
    "list": (b"- epochs", "must be a mapping of settings, got list"),
    "empty": (b"", "must be a mapping of settings, got NoneType"),
    "latin-1": ("schedule: é".encode("latin-1"), "in UTF-8, but byte"),
    "NUL": (b"epochs: 1\0", "is not YAML"),
    "key": (b"1: 1", "a key in line 1 is no text but 1"),
}


@pytest.mark.parametrize(("content", "said"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_no_recipe_says_why(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=said) as error:
        recipe(str(file))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"epochs": 1, "epochs": 2}', "--recipe is not JSON: the key 'epochs' comes twice"),
        ('{"epochs": NaN}', "--recipe is not JSON: it has NaN"),
        ('{"epochs": 1.0}', "epochs: 1.0 is not of type 'integer'"),
        ('{"lr": 1e400}', "a number that is not finite"),
        ('{"epochs": ' + "[" * 50_000, "nested more than 64 deep"),
        ('{"epochs": ' + "9" * 5000 + "}", "--recipe is not JSON"),
        ("x" * 5000, "unknown train recipe"),
        ("x/" * 5000, "File name too long"),
        ("/dev/zero", "is a device"),
        ("/", "is a folder"),
        ("", "unknown train recipe"),
    ],
    ids=lambda text: text[:20],
)
def test_text_that_is_no_recipe_says_why(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        recipe(text)
    assert len(str(error.value)) < 1000


@given(st.text(max_size=40) | st.sampled_from(["[1]", "1", "null", '"x"', '{"a": {"b": [1e400]}}']))
def test_options_are_a_mapping_or_one_line(text: str) -> None:
    try:
        content = arguments.options(parsed(options.add_method, f"--options={text}"))
    except InputError as error:
        said = str(error)
    else:
        assert isinstance(content, dict)
        said = ""
    assert len(said) < 1000
