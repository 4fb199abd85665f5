"""Any bytes give a document or one line; whatever is a document is what the standard parsers make of it."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from daar.errors import InputError
from daar.storage import documents

# what JSON has, but for integers and texts that our readers refuse
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
DOCUMENTS = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)
# pieces of YAML that have a meaning, joined at random
PIECES = st.lists(
    st.sampled_from(
        ["a", "b: ", "- ", "\n", "\n  ", " ", "&x ", "*x", "<<: ", "{", "}", "[", "]", ", ", "'", '"', "|", ">", "#",
         "!!int ", "!!set ", "!!binary ", "!x ", "? ", ": ", "---\n", "...\n", "%YAML 1.1\n", "1", ".5", "1e3", "0x1f",
         "1:30", "2024-01-01", "~", "yes", ".inf", ".nan", "\t", "\\", "\ufeff", "\x85", "é", "\U0001f600"]
    ),
    max_size=25,
).map("".join)  # fmt: skip


def is_json(document: Any) -> bool:
    """Whether the standard library writes and reads it without a change."""
    return bool(json.loads(json.dumps(document, allow_nan=False)) == document)


def one_line(call: Callable[[], Any]) -> str | None:
    """What it is refused with, in one line; None where it is a document."""
    try:
        document = call()
    except InputError as error:
        said = str(error)
    else:
        assert is_json(document)
        return None
    assert len(said.splitlines()) == 1
    assert len(said) < 1000
    return said


@given(st.binary(max_size=200))
def test_any_bytes_give_a_document_or_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    one_line(lambda: documents.read_yaml(path, "a suite"))
    one_line(lambda: documents.read_json(path, "a plan"))


@given(PIECES | st.text(max_size=60))
def test_yaml_is_read_as_pyyaml_reads_it_or_refused(text: str) -> None:
    assume("\ufeff" not in text)  # libyaml takes it for a byte order mark, PyYAML's own parser for text
    if one_line(lambda: documents.parse_yaml(text, "it")) is None:
        assert documents.parse_yaml(text, "it") == yaml.safe_load(text)


@given(DOCUMENTS)
def test_every_document_is_read_as_it_was_written(document: Any) -> None:
    assert documents.parse_json(json.dumps(document), "it", "Mend it.") == document
    assert documents.parse_json(json.dumps(document, ensure_ascii=False), "it", "Mend it.") == document
    assert documents.parse_yaml(yaml.safe_dump(document), "it") == document
    assert documents.require_json(document, "it", "Mend it.") is document


@given(DOCUMENTS)
def test_a_file_of_json_is_read_as_json_by_both(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "document.json"
    path.write_text(json.dumps(document))
    assert documents.read_json(path, "it") == documents.read_yaml(path, "it") == document


BOMB = "\n".join(
    ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]", *(f"a{i}: &a{i} [{', '.join(9 * [f'*a{i - 1}'])}]" for i in range(1, 10))]
)
MERGES = "\n".join(
    ["a0: &a0 {b: 1}", *(f"a{i}: &a{i} {{<<: [{', '.join(9 * [f'*a{i - 1}'])}]}}" for i in range(1, 10))]
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "the key 'a' comes twice in the mapping that begins in line 1"),
        ("x:\n  - {a: 1, a: 1}", "the key 'a' comes twice in the mapping that begins in line 2"),
        ("a: 2024-01-01", "line 1 has a date, 2024-01-01; put it in quotes"),
        ("a: 2024-13-45", "line 1 has a date, 2024-13-45; put it in quotes"),
        ("2024-01-01: a", "line 1 has a date"),
        ("a: 2024-01-01 10:00:00 +99:99", "line 1 has a date"),
        ("a: !!timestamp 1", "line 1 has a date"),
        ("1: a", "a key in line 1 is no text but 1; put it in quotes"),
        ("on: a", "a key in line 1 is no text but True"),
        ("~: a", "a key in line 1 is no text but None"),
        ("[a]: b", "unhashable"),
        ("a: &a [*a]", "the alias in line 1 contains itself"),
        ("&a a: {b: *a, c: &c {d: *c}}", "contains itself"),
        ("[" * 3000 + "]" * 3000, "nested more than 64 deep"),
        ("{a: " * 100_000, "nested more than 64 deep"),
        ("- " * 100_000, "nested more than 64 deep"),
        (BOMB, "more than 50,000 values, with its aliases written out"),
        (MERGES, "more than 50,000 values, with its aliases written out"),
        (f"[{'1, ' * 200_000}]", "more than 50,000 values"),
        ("a: " + "9" * 5000, "a number of 5,000 characters"),
        ("a: 0x" + "f" * 3000, "an integer of more than 64 bits"),
        ("a: 1" + ":1" * 100_000, "a number of 200,001 characters"),
        ("a: 1" + ":1" * 1000, "an integer of more than 64 bits"),
        ("a: 1" + ":1" * 1000 + ".5", "is not YAML|not finite"),
        ("a: -9223372036854775809", "an integer of more than 64 bits"),
        ("a: .nan", "a number that is not finite"),
        ("a: -.inf", "a number that is not finite"),
        ("a: 1.0e+999", "a number that is not finite"),
        ("a: !!binary aGk=", "a bytes, which JSON does not have"),
        ("a: !!set {b}", "a set, which JSON does not have"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor for the tag"),
        ("a: !!int ''", "is not YAML"),
        ("a: !!int x", "is not YAML"),
        ('a: "\\ud83d"', "is not YAML|half a character"),
        ("a: \0", "is not YAML"),
        ("\ta: 1", "is not YAML"),
        ("a: 1\n---\nb: 2", "is not YAML"),
        ("a: *b", "undefined alias"),
    ],
    ids=lambda text: text[:25].encode("unicode_escape").decode(),
)
def test_what_yaml_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        documents.parse_yaml(text, "it")
    assert one_line(lambda: documents.parse_yaml(text, "it"))


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: &x {b: 1}\nc: {<<: *x, b: 2}", {"a": {"b": 1}, "c": {"b": 2}}),
        # merged into a mapping that is constructed before the one that it comes from
        ("a: &x {b: 1}\nd: {e: &y {<<: *x, b: 2}}\nc: {<<: *y}", {"a": {"b": 1}, "d": {"e": {"b": 2}}, "c": {"b": 2}}),
        ("a: '2024-01-01'", {"a": "2024-01-01"}),
        ("'1': a", {"1": "a"}),
        ("", None),
        ("a: 1e-3", {"a": "1e-3"}),  # YAML 1.1
        ("a: 1:30", {"a": 90}),
        ("a: 18446744073709551615", {"a": 2**64 - 1}),
        ("[" * 64 + "]" * 64, json.loads("[" * 64 + "]" * 64)),
    ],
)
def test_what_yaml_is_taken(text: str, document: Any) -> None:
    assert documents.parse_yaml(text, "it") == document


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' comes twice"),
        ('{"a": NaN}', "it has NaN"),
        ("-Infinity", "it has -Infinity"),
        ("1e999", "a number that is not finite"),
        (str(2**64), "an integer of more than 64 bits"),
        ("9" * 5000, "is not JSON"),
        ("[" * 50_000, "nested more than 64 deep"),
        ("[" * 65 + "]" * 65, "nested more than 64 deep"),
        ('"\\ud83d"', "half a character"),
        ('{"\\udc00": 1}', "half a character"),
        ("", "is not JSON"),
        ("{'a': 1}", "is not JSON"),
        ("1 2", "is not JSON"),
    ],
    ids=lambda text: text[:25],
)
def test_what_json_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        documents.parse_json(text, "it", "Mend it.")
    assert one_line(lambda: documents.parse_json(text, "it", "Mend it."))


def test_json_of_fifty_thousand_levels_and_of_many_values_is_no_trouble() -> None:
    many = list(range(200_000))
    assert documents.parse_json(json.dumps(many), "it", "Mend it.") == many


def test_what_json_has_not_is_named_with_its_place() -> None:
    with pytest.raises(InputError, match=r"it has a key that is no text but 1\. Mend it\."):
        documents.require_json({"a": [{1: 2}]}, "it", "Mend it.")
    with pytest.raises(InputError, match=r"it has a set, which JSON does not have\. Mend it\."):
        documents.require_json({"a": {1}}, "it", "Mend it.")


# files


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def linked(path: Path, to: str) -> Path:
    path.symlink_to(to)
    return path


def listening(path: Path) -> Path:
    # a socket's path is short
    here = os.open(path.parent, os.O_RDONLY)
    before = os.open(".", os.O_RDONLY)
    os.fchdir(here)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.fchdir(before)
        os.close(here)
        os.close(before)
    return path


NO_FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "none": (lambda path: path, "there is no such file. Check the path."),
    "folder": (lambda path: path.parent, "is a folder. Give a file."),
    "pipe": (fifo, "is a pipe. Give a file."),
    "socket": (listening, "is a socket. Give a file."),
    "endless": (lambda _: Path("/dev/zero"), "is a device. Give a file."),
    "link to an endless one": (lambda path: linked(path, "/dev/zero"), "is a device. Give a file."),
    "dangling link": (lambda path: linked(path, "nowhere"), "there is no such file"),
    "link to itself": (lambda path: linked(path, path.name), "cannot be read (Too many levels of symbolic links)"),
    "below a file": (lambda path: path.parent / "file" / "x", "cannot be read (Not a directory)"),
    "long name": (lambda path: path / ("x" * 5000), "cannot be read (File name too long)"),
    "NUL": (lambda path: path / "a\0b", "embedded null byte"),
    "newline": (lambda path: path / "a\nb", "there is no such file"),
    "not UTF-8": (lambda path: path / os.fsdecode(b"a\xff"), "there is no such file"),
}


@pytest.mark.parametrize(
    "read", [documents.read_text, documents.read_json, documents.read_yaml, documents.require_file]
)
@pytest.mark.parametrize(("make", "said"), NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_file_is_named(
    tmp_path: Path, read: Callable[[Path, str], Any], make: Callable[[Path], Path], said: str
) -> None:
    (tmp_path / "file").touch()
    path = make(tmp_path / "x")
    with pytest.raises(InputError) as error:
        read(path, "a plan")
    message = str(error.value)
    assert said in message
    assert "should be a plan, but" in message
    assert message.isprintable()
    assert len(message) < 500


def test_text_is_utf_8_and_not_too_large(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\xef\xbb\xbfa\xc3\xa9")
    assert documents.read_text(path, "a plan") == "aé"  # without the mark that some editors put first
    assert documents.read_text(path, "a plan", largest=6) == "aé"
    with pytest.raises(InputError, match="should be a plan, but is larger than"):
        documents.read_text(path, "a plan", largest=5)
    path.write_bytes(b"ab\xe9c")
    with pytest.raises(InputError, match=r"should be a plan in UTF-8, but byte 2 \(0xe9\) is not. Save it as UTF-8."):
        documents.read_text(path, "a plan")
    path.write_text("a: 1", encoding="utf-16")
    with pytest.raises(InputError, match=r"in UTF-8, but byte 0"):
        documents.read_yaml(path, "a plan")
    assert documents.require_file(path, "a plan") == path
