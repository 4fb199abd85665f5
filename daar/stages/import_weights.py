"""Turn published weights (.pt, .th, .safetensors, torchvision's) into a checkpoint."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from daar import models
from daar.checkpoint import checkpoint, foreign, mismatch
from daar.checkpoint.checkpoint import Description
from daar.checkpoint.foreign import COUNTER, TORCHVISION
from daar.data import datasets, normalisation
from daar.errors import InputError
from daar.models import Network, weights
from daar.storage import files, provenance

# mean and std by which most published weights normalise
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def import_weights(
    *,
    file: Path | str,
    network: str,
    dataset: str,
    out: Path,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    trained_on: tuple[str, ...] = ("train", "val"),
) -> list[str]:
    """Read a foreign state dict and write a checkpoint.

    Args:
        file: written by torch.save, read as plain tensors only, or `.safetensors`; or `torchvision:NAME`, to download.
        network: name in the registry; its layers have the names that the file uses.
        dataset: that it was trained on; gives the number of classes.
        out: folder of the checkpoint.
        mean: per channel, of pixels in 0..1, by which its training normalised; None for ImageNet's or torchvision's.
        std: standard deviation for the same; None as for `mean`.
        trained_on: which of our splits it has seen. Published weights have seen all official train images, val among
            them, and never the official test (of ImageNet: validation) images.

    Returns:
        The float types other than float32 that weights were cast from, such as "float16".

    Raises:
        InputError: the file is no state dict of this network; the message names tensors that are unknown, missing, of
            another shape or not finite, and the likely cause.
    """
    entry, num_classes = models.get(network), datasets.num_classes(dataset)
    state, mean, std, origin = _fetch(file, entry, mean, std)
    normalisation.require(mean, std, entry.input_shape[0], str(file))
    cast = _types(state)
    about = Description(
        network=network,
        dataset=dataset,
        num_classes=num_classes,
        input_shape=entry.input_shape,
        mean=mean,
        std=std,
        trained_on=trained_on,
        plan=None,
        provenance={"imported": {**origin, **cast}, **provenance.environment()},
    )
    model = checkpoint.build_dense(about)
    _load(model, state, entry, num_classes, str(file))
    checkpoint.save(out, model, about)
    return cast.get("converted_from", [])


def _fetch(
    file: Path | str, entry: Network, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> tuple[dict[str, Tensor], tuple[float, ...], tuple[float, ...], dict[str, Any]]:
    """The published tensors, their mean and std, and their origin for provenance."""
    if not str(file).startswith(TORCHVISION):
        state = foreign.read(Path(file))
        origin = {"file": Path(file).name, "sha256": files.sha256(Path(file))}
        return state, mean or _IMAGENET_MEAN, std or _IMAGENET_STD, origin
    if mean or std:
        raise InputError(f"{file} brings its own mean and std. Leave --mean and --std out.")
    published = foreign.from_torchvision(str(file).removeprefix(TORCHVISION), entry)
    return published.state, published.mean, published.std, published.origin


def _load(model: nn.Module, published: dict[str, Tensor], entry: Network, num_classes: int, where: str) -> None:
    """Load published weights into their network; InputError if they do not fit."""
    # files older than torch 0.4.1 have no batch counters of BN; no result depends on them
    counters = {name: value for name, value in model.state_dict().items() if name.endswith(COUNTER)}
    state = counters | foreign.renamed(published, entry)
    if wrong := weights.differences(model.state_dict(), state):
        advice = mismatch.advice(published, entry, num_classes)
        raise InputError(f"{where} does not fit {entry.name} with {num_classes} classes: {wrong}. {advice}")
    converted = foreign.to_float32(state)
    weights.require_sound(converted, weights.types_of(model.state_dict()), where)
    model.load_state_dict(converted)


def _types(state: dict[str, Tensor]) -> dict[str, list[str]]:
    """For provenance: the float types of the weights other than float32, if there are any."""
    floats = {value.dtype for name, value in state.items() if value.is_floating_point() and not name.endswith(COUNTER)}
    kinds = {str(kind).removeprefix("torch.") for kind in floats}
    return {"converted_from": sorted(kinds - {"float32"})} if kinds - {"float32"} else {}
