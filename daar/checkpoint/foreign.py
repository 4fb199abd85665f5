"""Published weights: state dicts in the usual kinds of file, and torchvision's weights by name.

Only tensors and plain values are unpickled (`weights_only=True`).
"""

import http.client
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from daar.errors import InputError
from daar.models import Network
from daar.models.weights import FLOATS
from daar.storage import documents, files

# PyTorch's count of the batches that a BN has seen, an integer; what is taken for one is part of an import's result
COUNTER = "num_batches_tracked"

TORCHVISION = "torchvision:"
_INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)
_NESTINGS = ("state_dict", "model", "net", "model_state_dict")
# parts of a name that DataParallel and torch.compile add, and the buffers that thop leaves in a state dict
_WRAPPERS, _THOP = {"module", "_orig_mod"}, {"total_ops", "total_params"}


class _Ignored:
    """Replaces numpy scalars, such as a best accuracy next to the weights: a file never makes numpy code run."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


_STAND_INS: list[Any] = [
    (_Ignored, name) for name in ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")
]


@dataclass(frozen=True)
class TorchvisionWeights:
    """Weights of torchvision.

    Attributes:
        state: their tensors, by name.
        mean: per channel, of pixels in 0..1, by which their images are normalised.
        std: standard deviation per channel, of pixels in 0..1.
        origin: torchvision's name, file, hash, published accuracy (percent) and preprocessing, for provenance.
    """

    state: dict[str, Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: dict[str, Any]


def read(file: Path) -> dict[str, Tensor]:
    """The state dict of a foreign file, without nesting and without the prefixes of DataParallel and torch.compile.

    Args:
        file: written by torch.save, in either of its formats, or `.safetensors`.

    Raises:
        InputError: it is missing or damaged, holds more than tensors and plain values, or holds no state dict.
    """
    file = documents.require_file(Path(file), "weights")
    if file.suffix == ".safetensors":
        try:
            content: Any = safetensors.torch.load_file(file)
        except Exception as error:  # types that torch does not have raise KeyError and more
            raise InputError(
                f"{file} should hold weights, but it cannot be read: {_reason(error)}. Copy or download it again."
            ) from error
        return _unwrapped(content, str(file))
    try:
        # torch warns of old or foreign formats before it refuses them; one line is enough
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(_STAND_INS):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles raise nearly anything
        raise InputError(
            f"{file} should be a state dict saved by torch.save, but it cannot be read safely: {_reason(error)}. "
            "Save it again as a plain state dict of tensors."
        ) from error
    return _unwrapped(content, str(file))


def _reason(error: Exception) -> str:
    """Why torch.load failed, as a clause, without its advice to turn safety off."""
    if (match := re.search(r"GLOBAL (\S+)", str(error))) is not None:
        return f"it holds more than tensors ({match[1]})"
    if "TorchScript" in str(error):
        return "it is a TorchScript archive, which holds code"
    match = re.search(r"WeightsUnpickler error:\s*(.*)", str(error))
    lines = str(match[1] if match else error).strip().splitlines()
    said = lines[0].partition(" In PyTorch 2.6")[0] if lines else ""
    if said.isdecimal() or not said:  # what the unpickler stumbled over, or nothing at all
        return "it is empty, damaged, or of another kind"
    return (type(error).__name__ if "weights_only" in said else said).rstrip(". ")


def _unwrapped(content: Any, where: str) -> dict[str, Tensor]:
    """The state dict inside the content of a file."""
    for key in _NESTINGS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content or not all(_is_plain(*item) for item in content.items()):
        raise InputError(
            f"{where} holds a {type(content).__name__} and no state dict of tensors. Save model.state_dict()."
        )
    own = {name: ".".join(part for part in name.split(".") if part not in _WRAPPERS) for name in content}
    kept = {name: plain for name, plain in own.items() if plain.rpartition(".")[2] not in _THOP}
    _require_distinct(kept, where)
    return {plain: content[name].detach() for name, plain in kept.items()}


def _require_distinct(names: Mapping[str, str], where: str) -> None:
    """InputError if two tensors are one by the names that the network has for them: which is meant, nobody knows."""
    first: dict[str, str] = {}
    for name, plain in names.items():
        if (other := first.setdefault(plain, name)) != name:
            raise InputError(
                f"{where} should hold each tensor once, but {documents.shown(other)!r} and {documents.shown(name)!r} "
                f"are both {documents.shown(plain)!r} here. Take one of them out."
            )


def _is_plain(name: Any, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def from_torchvision(name: str, network: Network) -> TorchvisionWeights:
    """Weights of torchvision, downloaded unless they are in its cache.

    Args:
        name: torchvision's, such as IMAGENET1K_V1.
        network: one that the registry takes from torchvision.

    Raises:
        InputError: torchvision has none of that name for the network, or they cannot be downloaded.
    """
    weights = _find(name, network)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / Path(urlparse(weights.url).path).name
    try:
        content = torch.hub.load_state_dict_from_url(
            weights.url, model_dir=str(folder), map_location="cpu", check_hash=True, weights_only=True
        )
    except Exception as error:  # no network, a broken transfer, a wrong hash, a damaged pickle
        if not isinstance(error, OSError | http.client.HTTPException) and file.exists():
            raise InputError(f"{file} in torchvision's cache is damaged. Delete it and import again.") from error
        raise InputError(
            f"{file.name} cannot be downloaded: {_reason(error)}. Fetch {weights.url} where there is a network, and "
            f"give the local file: daar import {file.name} --network {network.name}"
        ) from error
    digest = files.sha256(file) if file.exists() else None
    # torch compares the hash after a download, not of a file in its cache
    if digest is not None and not digest.startswith(file.stem.rpartition("-")[2]):
        raise InputError(f"{file} in torchvision's cache is damaged (SHA-256 {digest}). Delete it and import again.")
    transforms, figures = weights.transforms(), weights.meta["_metrics"]["ImageNet-1K"]
    origin = {
        **{"torchvision": str(weights), "url": weights.url, "file": file.name, "sha256": digest},
        **{"published_top1": figures["acc@1"], "published_top5": figures["acc@5"]},
        **{"resize": transforms.resize_size[0], "crop": transforms.crop_size[0]},
    }
    state = _unwrapped(content, file.name)
    return TorchvisionWeights(state, tuple(transforms.mean), tuple(transforms.std), origin)


def _find(name: str, network: Network) -> Any:
    """Torchvision's enum member for the weights of a network."""
    from torchvision.models import get_model_weights

    try:
        known = get_model_weights(network.name)
        # some of our networks share their name with another network of torchvision
        fits = all(weights.transforms().crop_size == list(network.input_shape[2:]) for weights in known)
    except ValueError:
        fits = False
    if not fits:
        raise InputError(
            f"torchvision has no weights for {network.name} of {'×'.join(map(str, network.input_shape))} images. "
            "Import a file, or choose a network for ImageNet (daar list networks)."
        )
    if name not in known.__members__:
        names = ", ".join(weights.name for weights in known)
        raise InputError(f"torchvision has no weights {name!r} for {network.name}; there are: {names}.")
    return known[name]


def renamed(state: Mapping[str, Tensor], network: Network) -> dict[str, Tensor]:
    """The same tensors under the layer names of the registry's network.

    Raises:
        InputError: two of them are one there.
    """

    def ours(name: str) -> str:
        prefix = next((prefix for prefix in network.renamed if name.startswith(prefix)), "")
        return network.renamed[prefix] + name.removeprefix(prefix) if prefix else name

    names = {name: ours(name) for name in state}
    _require_distinct(names, "the file")
    return {names[name]: value for name, value in state.items()}


def to_float32(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights as float32 where they are floats of 16 to 64 bits, BN's counters as int64; the rest is as it was."""
    return {name: _counter(value) if name.endswith(COUNTER) else _float(value) for name, value in state.items()}


def _float(value: Tensor) -> Tensor:
    return value.float() if value.dtype in FLOATS else value


def _counter(value: Tensor) -> Tensor:
    """A count of batches as int64; averaged weights have it as a float."""
    if value.dtype in FLOATS:
        is_whole = bool((value == value.floor()).all()) and bool((value.abs() < 2**53).all())
        return value.long() if is_whole else value
    return value.long() if value.dtype in _INTEGERS else value
