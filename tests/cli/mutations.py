"""Damage files as chance, other programs and people who mean harm do: bytes, JSON values, headers, tensors, cells."""

import csv
import io
import json
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import safetensors.numpy

# what no number, name, list or mapping should be: other types, and the ends of each
EXTREMES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 0.5, 1.0, -0.0, 1e-320, 1e308, -1e308, 2**31, 2**53 + 1, 2**63, -(2**63), 2**64),
    *(2**70, 10**400, float("nan"), float("inf"), "", "x", "x" * 5000, "..", "../../x", "/etc/passwd", "a\0b", "a\nb"),
    *("\u202e", "\ud800", "$(touch x)", "-x", "0.5", "null", "train", "resnet56", "cifar10", [], [[]], {}, {"": {}}),
    *([0.0, 1.0], [0, 0], [1, "a"], [-1], list(range(3000)), {"x": 1}, {"format": 9}),
]
DEEP = "[" * 50_000 + "]" * 50_000


def in_bytes(content: bytes, dice: random.Random) -> bytes:
    """Flip, cut, repeat, insert or replace bytes; most of it near the beginning, where headers are."""
    kind = dice.randrange(8)
    end = min(len(content), dice.choice([16, 400, 4000, 1 << 62]))
    at = dice.randrange(end) if end else 0
    if kind < 3:
        changed = bytearray(content)
        for _ in range(min(len(content), dice.choice([1, 1, 2, 8, 64]))):
            changed[dice.randrange(end)] ^= dice.randrange(1, 256)
        return bytes(changed)
    junk = dice.choice([b"", b"\0" * 9, b"\xff\xfe", b"\r\n", b'"', b"{}", DEEP.encode(), dice.randbytes(50)])
    return {
        3: content[:at],
        4: content[:at] + content[at + dice.randrange(1, 40) :],
        5: content[:at] + content[: at + 40] + content[at:],
        6: content[:at] + junk + content[at:],
        7: junk,
    }[kind]


def in_json(content: bytes, dice: random.Random) -> bytes:
    """Replace, remove, repeat or add a value somewhere in a document."""
    return changed_text(json.loads(content), dice).encode("utf-8", "surrogatepass")


def changed_text(document: Any, dice: random.Random) -> str:
    """A document with one value that it should not have, as text."""
    places = list(_places(document))
    kind = dice.randrange(10)
    if not places or kind == 0:
        return json.dumps(dice.choice(EXTREMES))
    holder, key = dice.choice(places)
    if kind == 1:
        del holder[key]
    elif kind == 2 and isinstance(holder, list):
        holder.insert(key, holder[key])
    elif kind == 3 and isinstance(holder, dict):
        holder["unknown" if dice.random() < 0.5 else f"{key} "] = holder[key]
    elif kind == 4:
        holder[key] = "<here>"
        return json.dumps(document).replace('"<here>"', dice.choice([DEEP, "1" * 5000, "01", "1e999", "'x'", "nul"]), 1)
    else:
        holder[key] = dice.choice(EXTREMES)
    return json.dumps(document)


def _places(document: Any) -> Any:
    keys = range(len(document)) if isinstance(document, list) else document if isinstance(document, dict) else ()
    for key in list(keys):
        yield document, key
        yield from _places(document[key])


def in_safetensors(
    content: bytes, dice: random.Random, seal: Callable[[dict[str, Any], dict[str, Any]], None] | None = None
) -> bytes:
    """Change a tensor, the header, or the JSON document in its metadata.

    Args:
        content: of the file.
        dice: draws what is changed.
        seal: puts the checksum of a document and its tensors right again.
    """
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    if dice.random() < 0.3:
        text = changed_text(header, dice).encode("utf-8", "surrogatepass")
        return struct.pack("<Q", len(text)) + text + content[8 + size :]
    metadata, tensors = header.pop("__metadata__", {}), safetensors.numpy.load(content)
    if metadata and dice.random() < 0.5:
        key = dice.choice(list(metadata))
        document = json.loads(metadata[key])
        metadata[key] = changed_text(document, dice)
    else:
        _change_tensor(tensors, dice)
    if seal is not None and dice.random() < 0.7:
        for key, text in metadata.items():
            try:
                document = json.loads(text)
                seal(document, tensors)
                metadata[key] = json.dumps(document)
            except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
                continue
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    return safetensors.numpy.save(tensors, {k: v.encode("utf-8", "replace").decode() for k, v in metadata.items()})


def _change_tensor(tensors: dict[str, Any], dice: random.Random) -> None:
    name = dice.choice(sorted(tensors))
    tensor = tensors.pop(name)
    kind = dice.randrange(8)
    if kind == 0:
        return
    if kind == 1:
        tensors[f"{name}.x"] = tensor
        return
    number = np.float64 if dice.random() < 0.5 else np.int32
    extreme = dice.choice([-1, 255, 2**40, float("nan"), float("inf"), -float("inf"), 1e30, 0])
    filled = tensor.copy()
    with np.errstate(all="ignore"):
        filled.reshape(-1)[: dice.choice([1, filled.size])] = np.array(extreme, dtype=np.float64).astype(tensor.dtype)
    tensors[name] = {
        2: tensor.astype(number), 3: tensor.reshape(1, *tensor.shape), 4: tensor.reshape(-1), 5: tensor[:0],
        6: filled, 7: tensor[: max(1, len(tensor) - 1)] if tensor.ndim else tensor,
    }[kind]  # fmt: skip


def in_csv(content: bytes, dice: random.Random) -> bytes:
    """Replace a cell, a head, or a row."""
    rows = list(csv.reader(io.StringIO(content.decode())))
    at = dice.randrange(len(rows))
    if dice.random() < 0.15:
        rows.insert(at, dice.choice([rows[-1], [], rows[at][:-1], [*rows[at], "x"]]))
    else:
        extreme = dice.choice(EXTREMES)
        text = extreme if isinstance(extreme, str) else str(extreme) if isinstance(extreme, int | float) else "[]"
        rows[at][dice.randrange(len(rows[at]))] = text
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode("utf-8", "surrogatepass")
