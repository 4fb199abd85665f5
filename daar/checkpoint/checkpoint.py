"""A checkpoint: a folder with `model.safetensors` (weights) and `model.json` (all else that the network needs).

Loading builds the dense network, slims it by the plan, and loads the weights. No pickles. Since format 2, model.json
holds the hash of the weights, so that damage and a mix of two checkpoints are noticed.
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from daar import models
from daar.data import normalisation
from daar.errors import InputError
from daar.models import weights
from daar.pruning import plan as plans
from daar.pruning.groups import graph_of
from daar.pruning.slim import slim
from daar.storage import documents, files
from daar.storage.schemas import validate

RESULT_NEUTRAL = "stores and loads networks; what builds and slims them counts by itself"
FORMAT = 2


@dataclass(frozen=True)
class Description:
    """Content of model.json.

    Attributes:
        network: name in the registry.
        dataset: name of the dataset it was trained on.
        num_classes: length of the logits.
        input_shape: (C, H, W).
        mean: per channel, of pixels in 0..1, by which the network's input is normalised.
        std: standard deviation per channel, of pixels in 0..1.
        trained_on: splits that its training has seen, out of train, val, test.
        plan: by which it was slimmed; None for a dense network.
        provenance: seed, recipe, base checkpoint, versions and more.
    """

    network: str
    dataset: str
    num_classes: int
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    trained_on: tuple[str, ...]
    plan: plans.Plan | None
    provenance: dict[str, Any]


def save(folder: Path, model: nn.Module, description: Description) -> None:
    """Write a checkpoint, weights first: if model.json exists, so do they.

    A crash in between, over an older checkpoint, leaves new weights with the old model.json; `load` refuses the pair by
    the hash, and running the stage again repairs it.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_state(folder, state, description)


def save_state(folder: Path, state: dict[str, Tensor], description: Description) -> None:
    """Write a checkpoint from a state dict of contiguous CPU tensors."""
    folder = Path(folder)
    with files.atomic(folder / "model.safetensors") as temporary:
        safetensors.torch.save_file(state, temporary)
        digest = files.sha256(temporary)
    plan = description.plan and plans.to_json(description.plan)
    content = {"format": FORMAT, **asdict(description), "plan": plan, "weights_sha256": digest}
    files.write_json(folder / "model.json", content)


def describe(folder: Path) -> Description:
    """Read model.json.

    Raises:
        InputError: it is missing, damaged, or of a newer format, or mean or std cannot be.
    """
    return _read_description(Path(folder) / "model.json")[0]


def _read_description(path: Path) -> tuple[Description, str | None]:
    """model.json, and the hash of the weights, which format 1 did not have."""
    if _is_saved_in_python(path.parent):
        raise InputError(
            f"{documents.shown(path.parent)} should be a checkpoint of a network of the registry, but is a folder of "
            "daar.save. Commands cannot build its network: read it in Python, daar.load(model, folder)."
        )
    content = documents.read_json(path, "the description of a checkpoint")
    if isinstance(content, dict) and isinstance(content.get("format"), int) and content["format"] > FORMAT:
        raise InputError(f"{path} has format {content['format']}; this version reads up to {FORMAT}. Update daar.")
    validate(content, "model", str(path), "Make the checkpoint again.")
    if (takes := list(models.get(content["network"]).input_shape)) != content["input_shape"]:
        raise InputError(
            f"{path}: input_shape should be {takes}, as {content['network']} takes images, but is "
            f"{content['input_shape']}. Make the checkpoint again."
        )
    plan = content["plan"] and plans.from_json(content["plan"], f"{path}: plan")
    lists: dict[str, Any] = {key: tuple(content[key]) for key in ("input_shape", "mean", "std", "trained_on")}
    normalisation.require(lists["mean"], lists["std"], takes[0], str(path))
    plain = {key: content[key] for key in ("network", "dataset", "num_classes", "provenance")}
    return Description(**plain, **lists, plan=plan), content.get("weights_sha256")


def _is_saved_in_python(folder: Path) -> bool:
    """Whether a folder is one of `daar.save`, for networks that no command can build."""
    try:
        return (folder / "slim.json").is_file() and not (folder / "model.json").exists()
    except (OSError, ValueError):  # a name that is too long
        return False


def build(description: Description) -> nn.Module:
    """The network of a description, slimmed by its plan; its weights are not loaded and may be uninitialised."""
    model = build_dense(description)
    if description.plan is None:
        return model
    plan = description.plan
    graph = graph_of(model, description.input_shape, plan.exclude, plan.repairs)
    return slim(model, graph, plan.removed(graph))


def build_dense(description: Description) -> nn.Module:
    """The dense network of a description; torch's random state does not change."""
    with torch.random.fork_rng(devices=[]):
        return models.get(description.network).build(description.num_classes)


def load(folder: Path) -> tuple[nn.Module, Description]:
    """Read a checkpoint.

    Returns:
        The network in eval mode on the CPU, and its description.

    Raises:
        InputError: a file is missing, damaged or of a newer format, weights and description do not fit, or a weight is
            not finite, a variance negative, or one of another type than the network's.
    """
    path = Path(folder) / "model.safetensors"
    description, expected = _read_description(path.with_name("model.json"))
    model = build(description)
    try:
        content = documents.require_file(path, "weights").read_bytes()
        state = safetensors.torch.load(content)
    except InputError:
        raise
    except Exception as error:  # types that torch does not have raise KeyError and more
        raise InputError(
            f"{path} should hold weights, but it cannot be read: {error}. Copy or make it again."
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if expected not in (None, digest):
        raise InputError(
            f"{path} is not the file that model.json names: its SHA-256 is {digest[:12]}…, not {expected[:12]}…. "
            "It is damaged, or another checkpoint's, or its writing was cut short: copy both files again, or run the "
            "command that made them."
        )
    own = model.state_dict()
    if wrong := weights.differences(own, state):
        raise InputError(f"{path} does not fit the {description.network} of its model.json: {wrong}. Copy both again.")
    weights.require_sound(state, weights.types_of(own), str(path))
    model.load_state_dict(state)
    return model.eval(), description
