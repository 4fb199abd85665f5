"""attention.safetensors: what a method's scores see on a few images, in a shallow and a deep layer; for a figure.

Read without torch: the report draws it from this file alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from daar.errors import InputError
from daar.storage import tensors
from daar.storage.files import atomic
from daar.storage.schemas import validate

FORMAT = 1
# one key only: safetensors writes several in an order that changes from run to run
_HEADER = "daar_attention"
_AGAIN = "Make it again: daar explain"
_ABOUT = ("network", "dataset", "method", "policy", "target", "seed", "calibration_images")


@dataclass(frozen=True, eq=False)
class Seen:
    """What the scores see in one layer.

    Attributes:
        name: path of the conv.
        kept: (c_out,) bool, whether the plan keeps the filter.
        filters: (k,) int64, the filters whose maps are shown: kept ones first, then by falling mean share.
        shares: (n, c_out) float32, of every filter on each image.
        maps: (n, k, h, w) float32, the feature maps of `filters`.
        attention: (n, h, w) float32, where the layer looks; None if channels are compared instead of places.
    """

    name: str
    kept: Any
    filters: Any
    shares: Any
    maps: Any
    attention: Any | None


@dataclass(frozen=True, eq=False)
class Explanation:
    """All that the figure shows.

    Attributes:
        about: network, dataset, method, policy, target (null for its own rate), seed, calibration_images.
        images: (n, H, W, C) uint8.
        classes: names of the images' classes.
        layers: from shallow to deep.
    """

    about: dict[str, Any]
    images: Any
    classes: tuple[str, ...]
    layers: tuple[Seen, ...]


def save(path: Path, explanation: Explanation) -> None:
    """Write attention.safetensors."""
    stored = {"images": explanation.images}
    for index, layer in enumerate(explanation.layers):
        for name in ("kept", "filters", "shares", "maps", "attention"):
            if getattr(layer, name) is not None:
                stored[f"{index}.{name}"] = getattr(layer, name)
    names = [layer.name for layer in explanation.layers]
    header = {"format": FORMAT, **explanation.about, "classes": explanation.classes, "layers": names}
    # safetensors writes the bytes of an array that is not contiguous in the order of memory
    stored = {name: np.ascontiguousarray(tensor) for name, tensor in stored.items()}
    content = safetensors.numpy.save(stored, {_HEADER: json.dumps(header)})
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def load(path: Path) -> Explanation:
    """Read attention.safetensors.

    Raises:
        InputError: it is missing, damaged, or of another format.
    """
    stored, header = tensors.read(path, "what `daar explain` wrote", _AGAIN, framework="np", header=_HEADER)
    validate(header, "attention", str(path), _AGAIN)
    if header["format"] != FORMAT:
        raise InputError(f"{path} is in format {header['format']}; this version reads {FORMAT}. {_AGAIN}")
    _require_fitting(path, stored, header)
    layers = tuple(
        Seen(
            name=name,
            **{part: stored[f"{index}.{part}"] for part in ("kept", "filters", "shares", "maps")},
            attention=stored.get(f"{index}.attention"),
        )
        for index, name in enumerate(header["layers"])
    )
    about = {key: header[key] for key in _ABOUT}
    return Explanation(about, stored["images"], tuple(header["classes"]), layers)


def _require_fitting(path: Path, stored: dict[str, Any], header: dict[str, Any]) -> None:
    """InputError where tensors do not fit the header, or each other."""
    count = len(header["classes"])
    expected: dict[str, tuple[str, tuple[int | None, ...]]] = {"images": ("uint8", (count, None, None, None))}
    for index in range(len(header["layers"])):
        filters = stored[f"{index}.filters"].size if f"{index}.filters" in stored else None
        width = stored[f"{index}.kept"].size if f"{index}.kept" in stored else None
        expected |= {
            f"{index}.kept": ("bool", (width,)),
            f"{index}.filters": ("int64", (filters,)),
            f"{index}.shares": ("float32", (count, width)),
            f"{index}.maps": ("float32", (count, filters, None, None)),
        }
        if f"{index}.attention" in stored:
            expected[f"{index}.attention"] = ("float32", (count, None, None))
    tensors.require(stored, expected, path, _AGAIN)
    if stored["images"].shape[-1] not in (1, 3):
        raise InputError(
            f"{path}: 'images' should have 1 or 3 channels, but has {stored['images'].shape[-1]}. {_AGAIN}"
        )
    for index in range(len(header["layers"])):
        filters, width = stored[f"{index}.filters"], stored[f"{index}.kept"].size
        if not filters.size or not ((filters >= 0) & (filters < width)).all():
            raise InputError(f"{path}: '{index}.filters' should be numbers below {width}, but are not. {_AGAIN}")
    for name, tensor in stored.items():
        if not tensor.size or not np.isfinite(tensor).all():
            raise InputError(f"{path}: {name!r} should be finite numbers, but is empty or is not. {_AGAIN}")
