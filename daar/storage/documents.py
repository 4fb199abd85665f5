"""Read JSON, YAML and text that others may have written: any bytes give a document or one line.

Imported while the DAG is built: neither torch nor numpy.
"""

import json
import math
import os
import stat
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml

from daar.errors import InputError, in_one_line

RESULT_NEUTRAL = "refuses documents, changes none"

# the largest that daar writes is a results.csv of some MB; a larger one was not written by it
LARGEST_BYTES = 64 << 20
# deeper than any schema here, less deep than what exhausts the stack of those who walk a document
_DEEPEST = 64
# of YAML, which people write
_MOST_NODES = 50_000
# decimal digits
_SURELY_64_BITS = 18
# Python's own limit for decimal integers; PyYAML takes quadratic time for 1:1:1:…, a number to the base of 60
_LONGEST_NUMBER = 4300
# libyaml where PyYAML was built with it: ten times as fast
SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}  # fmt: skip


def require_file(path: Path, what: str) -> Path:
    """Return the path of a regular file: opening a pipe or reading a device could take for ever.

    Args:
        path: the file; a link is followed.
        what: what the file should be, for the message ("a plan").

    Raises:
        InputError: there is no such file, it is none, or nobody may look.
    """
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        raise InputError(f"{shown(path)} should be {what}, but there is no such file. Check the path.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InputError(f"{shown(path)} should be {what}, but {_reason(error)}. Check the path.") from None
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no file")
        raise InputError(f"{shown(path)} should be {what}, but is {kind}. Give a file.")
    return Path(path)


def read_text(path: Path, what: str, *, largest: int = LARGEST_BYTES) -> str:
    """Read a file of UTF-8 text, whole.

    Args:
        path: the file.
        what: what the file should be, for the message ("a plan").
        largest: size in bytes.

    Raises:
        InputError: there is no such file, it is larger, is no regular file or no UTF-8.
    """
    require_file(path, what)
    try:
        with open(path, "rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise InputError(f"{shown(path)} should be {what}, but {_reason(error)}. Make it again.") from error
    if len(content) > largest:
        raise InputError(f"{shown(path)} should be {what}, but is larger than {largest >> 20} MiB. Make it again.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{shown(path)} should be {what} in UTF-8, but byte {error.start} ({content[error.start]:#04x}) is not. "
            "Save it as UTF-8."
        ) from error


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        what: what the file should be, for the message ("a plan").

    Raises:
        InputError: as `read_text` and `parse_json`.
    """
    return parse_json(read_text(path, what), f"{shown(path)} should be {what}, but", "Make it again.")


def parse_json(text: str, where: str, remedy: str) -> Any:
    """Parse JSON: no key twice, no NaN, no infinity, no integer beyond 64 bits, no text that UTF-8 does not have.

    Args:
        text: the document.
        where: begins the message.
        remedy: ends it, a sentence.

    Raises:
        InputError: it is not such a document.
    """
    odd: list[str] = []

    def number(text: str) -> float:
        value = float(text)
        if not -math.inf < value < math.inf:
            odd.append(text)
        return value

    def integer(text: str) -> int:
        if len(text) > _SURELY_64_BITS:
            odd.append(text)
        return int(text)

    try:
        document = json.loads(
            text, object_pairs_hook=_mapping, parse_constant=_not_json, parse_float=number, parse_int=integer
        )
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON: {_reason(error)}. {remedy}") from error
    # most documents need no look at every value
    if odd or not text.isascii() or "\\u" in text or _is_deep(document):
        require_json(document, where, remedy)
    return document


def _is_deep(document: Any) -> bool:
    """Whether lists and mappings are nested more than _DEEPEST deep."""
    level = [document]
    for _ in range(_DEEPEST):
        level = [
            part
            for one in level
            if isinstance(one, dict | list)
            for part in (one.values() if isinstance(one, dict) else one)
            if isinstance(part, dict | list)
        ]
        if not level:
            return False
    return True


def read_yaml(path: Path, what: str, remedy: str = "Correct it.") -> Any:
    """Read a YAML file, or a JSON file as JSON: JSON's 1e-3 is a number, YAML's is text. Snakemake does the same.

    Args:
        path: the file.
        what: what the file should be, for the message ("a suite").
        remedy: ends the message if it is no such document, a sentence.

    Raises:
        InputError: as `read_text` and `parse_yaml`.
    """
    text = read_text(path, what, largest=4 << 20)
    parse = parse_json if _is_json(text) else parse_yaml
    return parse(text, f"{shown(path)} should be {what}, but", remedy)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def parse_yaml(text: str, where: str, remedy: str = "Correct it.") -> Any:
    """Parse YAML as Snakemake does, but without dates; keys are text, and none comes twice; limits as for JSON.

    Args:
        text: the document.
        where: begins the message.
        remedy: ends it, a sentence.

    Raises:
        InputError: it is not such a document, refers to itself, or has aliases that would fill the memory.
    """
    try:
        _require_small(text)
        if (
            "\t" in text
        ):  # libyaml takes tabs where PyYAML's own scanner, and so Snakemake without libyaml, refuses them
            deque(yaml.scan(text, Loader=yaml.SafeLoader), maxlen=0)
        document = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except Exception as error:  # PyYAML's constructors let out whatever a wrong scalar causes, such as IndexError
        raise InputError(f"{where} is not YAML: {_reason(error)}. {remedy}") from error
    return require_json(document, where, remedy)


class _Loader(SafeLoader):  # type: ignore[misc, valid-type]  # one of two classes
    """PyYAML's, with errors for dates, for keys that come twice or are no text, and for endless numbers."""

    def get_single_node(self) -> Any:
        """Compose the tree of nodes, and refuse it where written out it would fill the memory."""
        root = super().get_single_node()
        _written_out(root, {})
        return root

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        """Construct a mapping whose keys are texts."""
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        if others := [key for key in mapping if not isinstance(key, str)]:
            raise ValueError(f"a key in {_line(node)} is no text but {others[0]!r}; put it in quotes")
        return mapping

    def construct_number(self, node: Any) -> Any:
        """Construct an integer or a float."""
        if len(node.value) > _LONGEST_NUMBER:
            raise ValueError(f"{_line(node)} has a number of {len(node.value):,} characters")
        kind = node.tag.rsplit(":", 1)[1]
        return self.construct_yaml_int(node) if kind == "int" else self.construct_yaml_float(node)

    def refuse_date(self, node: Any) -> NoReturn:
        """Refuse what YAML takes for a date: it would be no text, and 2024-13-45 an exception."""
        raise ValueError(f"{_line(node)} has a date, {node.value}; put it in quotes")


for _tag, _constructor in (
    ("int", _Loader.construct_number),
    ("float", _Loader.construct_number),
    ("timestamp", _Loader.refuse_date),
):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _constructor)


def _require_small(text: str) -> None:
    """Look at size and nesting before anything recurses: libyaml's composer would overflow the stack."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=SafeLoader)):
        if count > 2 * _MOST_NODES:
            raise ValueError(f"it has more than {_MOST_NODES:,} values")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise ValueError(f"{_line(event)} is nested more than {_DEEPEST} deep")


def _written_out(node: Any, sizes: dict[int, int]) -> int:
    """How many nodes a node is with every alias in it written out.

    Args:
        node: a node of PyYAML's, which stands once for all its aliases.
        sizes: id of a node → its size, 0 while it is being counted; filled in.

    Raises:
        ValueError: it contains itself, there are too many, or a key comes twice.
    """
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise ValueError(f"the alias in {_line(node)} contains itself")
        return sizes[id(node)]
    sizes[id(node)], size = 0, 1
    _require_distinct_keys(node)
    for child in _children(node):
        size += _written_out(child, sizes)
        if size > _MOST_NODES:
            raise ValueError(f"it has more than {_MOST_NODES:,} values, with its aliases written out")
    sizes[id(node)] = size
    return size


def _require_distinct_keys(node: Any) -> None:
    """Keys that `<<` merges into a mapping may come again, as YAML has it: they are no keys of this node yet."""
    if isinstance(node, yaml.MappingNode):
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [key for key, count in keys.items() if count > 1]:
            raise ValueError(f"the key {twice[0]!r} comes twice in the mapping that begins in {_line(node)}")


def _children(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _line(node: Any) -> str:
    return f"line {node.start_mark.line + 1}"


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError(f"the key {Counter(key for key, _ in pairs).most_common(1)[0][0]!r} comes twice")
    return mapping


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"it has {constant}")


def require_json(document: Any, where: str, remedy: str) -> Any:
    """Return a document of what JSON has, if its depth, numbers, texts and keys are such that others can work with it.

    Args:
        document: of mappings, lists, texts, numbers, true, false and null.
        where: begins the message.
        remedy: ends it, a sentence.

    Raises:
        InputError: it has something else.
    """
    for depth, value in _walk(document):
        if depth > _DEEPEST and isinstance(value, dict | list):
            raise InputError(f"{where} is nested more than {_DEEPEST} deep. {remedy}")
        if problem := _problem(value):
            raise InputError(f"{where} has {problem}. {remedy}")
    return document


def _walk(document: Any) -> Iterator[tuple[int, Any]]:
    """Every value and key, with its depth, from 1; without recursion."""
    waiting = [(1, document)]
    while waiting:
        depth, value = waiting.pop()
        yield depth, value
        if depth > _DEEPEST:
            continue
        if isinstance(value, dict):
            waiting += [(depth + 1, part) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            waiting += [(depth + 1, part) for part in value]


def _problem(value: Any) -> str | None:
    if isinstance(value, dict) and (others := [key for key in value if not isinstance(key, str)]):
        return f"a key that is no text but {others[0]!r}"
    if not isinstance(value, dict | list | str | int | float | None):
        return f"a {type(value).__name__}, which JSON does not have"
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return "an integer of more than 64 bits"
    if isinstance(value, float) and not math.isfinite(value):
        return "a number that is not finite"
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "text with half a character (a surrogate)"
    return None


def shown(path: Path | str) -> str:
    """A path or a name in one line, however long and of whatever characters."""
    return in_one_line(os.fspath(path), 280)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"it is nested more than {_DEEPEST} deep"
    if isinstance(error, OSError):
        return f"it cannot be read ({error.strerror})"
    return in_one_line(" ".join(str(error).split()).rstrip("."))
