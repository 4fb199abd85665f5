"""A slim network in a folder: `model.safetensors` and `slim.json`, its plan and how it is called. No pickle."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from daar.errors import InputError, in_one_line
from daar.models import weights
from daar.program.inputs import fewest
from daar.pruned import images as forms
from daar.pruned.mixed_types import suited
from daar.pruned.network import apart_from, prepared, unwrapped
from daar.pruned.result import Pruned, slimmed_by
from daar.pruning import plan as plans
from daar.pruning.plan import Plan
from daar.storage import documents, files
from daar.storage import tensors as stored
from daar.storage.schemas import validate

FORMAT = 1
_WEIGHTS, _SLIM = "model.safetensors", "slim.json"
_REMEDY = "Copy both files of the folder again, or save the network again: daar.save(pruned, folder)."


@dataclass(frozen=True)
class _Described:
    network: str
    plan: Plan
    called_with: Any
    sha256: str


def save(pruned: Pruned, folder: str | Path) -> None:
    """Write a slim network, tuned or not, so that `daar.load(model, folder)` makes it again in a new process.

    Args:
        pruned: of `daar.prune`; its `model` as it is now.
        folder: to be made, or written over; `slim.json` and `model.safetensors`.

    Raises:
        InputError: it is no `Pruned`, a part of its state is no tensor, or the folder cannot be written.
    """
    if not isinstance(pruned, Pruned):
        raise InputError(f"pruned is a {type(pruned).__name__}; it must be what daar.prune returns.")
    folder = _folder(folder)
    state = {}
    for name, value in pruned.model.state_dict().items():
        if not isinstance(value, Tensor):
            raise InputError(
                f"{name} in the network's state is a {type(value).__name__}, and only tensors can be saved. Take out "
                "get_extra_state of its module."
            )
        state[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)  # tied ones by themselves too
    with files.atomic(folder / _WEIGHTS) as temporary:
        safetensors.torch.save_file(state, temporary)
        digest = files.sha256(temporary)
    content = {
        "format": FORMAT,
        "network": _named(pruned.model),
        "called_with": pruned.called_with,
        "plan": plans.to_json(pruned.plan),
        "report": pruned.report.to_json(),
        "weights_sha256": digest,
    }
    files.write_json(folder / _SLIM, content)


def load(model: nn.Module, folder: str | Path) -> nn.Module:
    """The slim network that was saved: `net = daar.load(resnet18(), "slim")`.

    Args:
        model: a dense network of the class and size that was pruned, with any weights; left as it is.
        folder: that `daar.save` wrote.

    Returns:
        The network with the weights saved, in their types, on the model's device and in its mode.

    Raises:
        InputError: a file is absent, damaged or of a newer format, the two are not of one network, or the model is
            another network.
    """
    folder = _folder(folder)
    described = _read(folder / _SLIM)
    path = folder / _WEIGHTS
    if (digest := files.sha256(documents.require_file(path, "the weights of a slim network"))) != described.sha256:
        raise InputError(
            f"{documents.shown(path)} is not the file that {_SLIM} names: its SHA-256 is {digest[:12]}…, not "
            f"{described.sha256[:12]}…. {_REMEDY}"
        )
    state = stored.read(path, "the weights of a slim network", _REMEDY).tensors
    network, _ = unwrapped(model)
    blank = _blank(described.called_with, folder)
    dense = prepared(network)
    with apart_from(network):
        called = fewest(dense, suited(dense, blank))
    try:
        slimmed = slimmed_by(dense, network, called, described.plan)
    except InputError as error:
        raise InputError(f"{_whose(described, folder, network)}: {error}") from error
    if wrong := weights.differences(slimmed.state_dict(), state):
        raise InputError(
            f"{_whose(described, folder, network)}: {_WEIGHTS} does not fit the slim network: {wrong}. Give the "
            "network that was pruned, or copy both files again."
        )
    _take(slimmed, state)
    return slimmed


def load_plan(folder: str | Path) -> Plan:
    """The plan of a slim network that was saved: which channels stay, what was excluded and repaired.

    Args:
        folder: that `daar.save` wrote.

    Raises:
        InputError: `slim.json` is absent, damaged or of a newer format.
    """
    return _read(_folder(folder) / _SLIM).plan


def _named(network: nn.Module) -> str:
    return f"{type(network).__module__}.{type(network).__qualname__}"


def _whose(described: _Described, folder: Path, network: nn.Module) -> str:
    """Of which class the saved network is and of which the given one, a phrase."""
    was, given = in_one_line(described.network, 100), in_one_line(_named(network), 100)
    other = "one too" if was == given else f"a {given}"
    return f"{documents.shown(folder)} was saved from a {was}; the network given is {other}"


def _take(slimmed: nn.Module, state: dict[str, Tensor]) -> None:
    """Give a network its weights, in the types that were saved."""
    held = [*slimmed.named_parameters(remove_duplicate=False), *slimmed.named_buffers(remove_duplicate=False)]
    for name, value in held:
        if name in state and value.dtype != state[name].dtype:
            value.data = value.data.to(state[name].dtype)
    slimmed.load_state_dict(state)


def _folder(folder: Any) -> Path:
    if not isinstance(folder, (str, Path)):
        raise InputError(f"folder is {in_one_line(repr(folder), 80)}; it must be a path.")
    return Path(folder)


def _read(path: Path) -> _Described:
    content = documents.read_json(path, "the description of a slim network")
    if isinstance(content, dict) and isinstance(content.get("format"), int) and content["format"] > FORMAT:
        raise InputError(f"{path} has format {content['format']}; this version reads up to {FORMAT}. Update daar.")
    validate(content, "slim", documents.shown(path), _REMEDY)
    plan = plans.from_json(content["plan"], f"{documents.shown(path)}: plan")
    return _Described(content["network"], plan, content["called_with"], content["weights_sha256"])


def _blank(called_with: Any, folder: Path) -> Any:
    try:
        images = forms.blank(called_with, 32)
        forms.require(images)
        return images
    except (InputError, KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{documents.shown(folder / _SLIM)}: called_with should be shapes and types of images, but has "
            f"{in_one_line(str(error), 80)}. {_REMEDY}"
        ) from error
