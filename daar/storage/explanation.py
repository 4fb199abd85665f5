"""attention.safetensors: what a method's scores see on a few images, in a shallow and a deep layer; for a figure.

Read without torch: the report draws it from this file alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from safetensors import SafetensorError

from daar.errors import InputError
from daar.storage.files import atomic

FORMAT = 1
# one key only: safetensors writes several in an order that changes from run to run
_HEADER = "daar_attention"
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
    tensors = {"images": explanation.images}
    for index, layer in enumerate(explanation.layers):
        for name in ("kept", "filters", "shares", "maps", "attention"):
            if getattr(layer, name) is not None:
                tensors[f"{index}.{name}"] = getattr(layer, name)
    names = [layer.name for layer in explanation.layers]
    header = {"format": FORMAT, **explanation.about, "classes": explanation.classes, "layers": names}
    # safetensors writes the bytes of an array that is not contiguous in the order of memory
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    content = safetensors.numpy.save(tensors, {_HEADER: json.dumps(header)})
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def load(path: Path) -> Explanation:
    """Read attention.safetensors.

    Raises:
        InputError: it is missing, damaged, or of another format.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']}, not {FORMAT}")
        layers = tuple(
            Seen(
                name=name,
                **{part: tensors[f"{index}.{part}"] for part in ("kept", "filters", "shares", "maps")},
                attention=tensors.get(f"{index}.attention"),
            )
            for index, name in enumerate(header["layers"])
        )
        about = {key: header[key] for key in _ABOUT}
        return Explanation(about, tensors["images"], tuple(header["classes"]), layers)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} should hold what `daar explain` wrote, but it cannot be read: {error}. Make it again."
        ) from error
