"""The images that were given, in whatever form: one batch, as the network is called, and labels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from daar.device.precision import evaluating
from daar.errors import InputError, in_one_line, is_out_of_memory
from daar.measure.finite import require_finite
from daar.program.draws import seeded
from daar.program.inputs import Images, call, count, each, fewest, split
from daar.program.outputs import tensors
from daar.pruned import batches
from daar.pruned.mixed_types import suited

_FORMS = (
    "a tensor (N, …), a tuple or dict of tensors as the network is called with, or batches of them, as of a DataLoader"
)
# images per forward pass
_AT_ONCE = 64


@dataclass(frozen=True)
class Placed:
    """Images where the network is, and what it says of them.

    Attributes:
        images: as the network is called with.
        predictions: (N,) int64, the class of each image; None where the network's output is not logits (N, C).
        device: of the network.
    """

    images: Images
    predictions: Tensor | None
    device: torch.device


def collected(model: nn.Module, images: Any, labels: Any, wanted: int) -> tuple[Images, Tensor | None]:
    """One batch of images, and their labels if there are any.

    Args:
        model: whose arguments tell labels from a further input.
        images: a tensor, a tuple or dict of tensors, or batches of them, with or without labels.
        labels: (N, …), or None.
        wanted: images to take of batches; all of anything else are taken.

    Raises:
        InputError: they are none of these, are empty or not finite, or there are two kinds of labels.
    """
    if isinstance(images, (Tensor, Mapping, tuple)):
        taken, own = batches.divided(model, images)
    elif isinstance(images, Iterable) and not isinstance(images, (str, bytes)):
        taken, own = _of_batches(model, images, wanted)
    else:
        raise InputError(f"images are a {type(images).__name__}; they must be {_FORMS}.")
    require(taken)
    if own is not None and labels is not None:
        raise InputError("labels are given twice, with the images and by themselves. Give them once.")
    labels = own if labels is None else labels
    if labels is not None:
        _require_labels(labels, count(taken))
    return taken, labels


def _require_labels(labels: Any, number: int) -> None:
    if not isinstance(labels, Tensor) or labels.dim() < 1 or len(labels) != number:
        what = str(tuple(labels.shape)) if isinstance(labels, Tensor) else type(labels).__name__
        raise InputError(
            f"labels are {what}; they must be a tensor ({number},) or ({number}, …), with one entry for each image."
        )


def _of_batches(model: nn.Module, images: Iterable[Any], wanted: int) -> tuple[Images, Tensor | None]:
    if batches.is_one_batch(images):
        return batches.divided(model, images)
    alone = isinstance(images, list) and len(images) > 1 and all(isinstance(batch, Tensor) for batch in images)
    if alone and len(names := batches.inputs_of(model)) > 1:
        raise InputError(
            f"images are a list, which is a list of batches, but the network takes {len(names)} inputs. Give them as a "
            f"tuple: ({', '.join(names)})."
        )
    parts: list[tuple[Images, Any]] = []
    there = 0
    for batch in images:
        part, labels = batches.divided(model, batch)
        require(part)
        if labels is not None:
            _require_labels(labels, count(part))
        parts.append((part, labels))
        there += count(part)
        if there >= wanted:
            break
    if not parts:
        raise InputError(f"images hold no batch; they must be {_FORMS}. A generator that was used up gives none.")
    told = [labels for _, labels in parts if labels is not None]
    try:
        joined = _joined([part for part, _ in parts])
    except (RuntimeError, TypeError, KeyError, ValueError) as error:
        said = in_one_line(str(error)).rstrip(".")
        more = " A list is a list of batches: give inputs, or images and labels, as a tuple." if alone else ""
        raise InputError(
            f"the batches of images do not fit together: {said}. Give images of one size, resized or cropped alike."
            f"{more}"
        ) from error
    return each(joined, lambda part: part[:wanted]), _labels(told)[:wanted] if len(told) == len(parts) else None


def _labels(parts: list[Tensor]) -> Tensor:
    try:
        return torch.cat(parts)
    except (RuntimeError, TypeError) as error:
        said = in_one_line(str(error)).rstrip(".")
        raise InputError(
            f"the labels of the batches do not fit together: {said}. Give labels of one shape, or images alone."
        ) from error


def _joined(parts: list[Images]) -> Images:
    one = parts[0]
    if isinstance(one, Tensor):
        return torch.cat(parts)
    if isinstance(one, Mapping):
        return {name: _joined([part[name] for part in parts]) for name in one}
    if isinstance(one, (list, tuple)):
        return type(one)(_joined(list(several)) for several in zip(*parts, strict=True))
    return one


def require(images: Images) -> None:
    """InputError unless there are tensors, all of the same number of images, and finite."""
    held = list(tensors(images))
    if not held:
        raise InputError(f"images are a {type(images).__name__} without a tensor; they must be {_FORMS}.")
    for value in held:
        if value.dim() < 1 or not len(value) or len(value) != len(held[0]):
            raise InputError(
                f"images are {value.dtype} {tuple(value.shape)}; each tensor must be (N, …), N at least 1 and the same "
                "for all."
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError("images hold NaN or infinity; give finite ones, normalised as the model wants them.")


def placed(dense: nn.Module, images: Images, *, are_read: bool = True) -> Placed:
    """The images where the network is, with the network's predictions; tries all in a forward pass.

    Floating-point numbers get the type of the network's weights (mixed_types.py); integers, such as tokens, stay what
    they are.

    Args:
        dense: the network.
        images: as it is called with.
        are_read: whether a method or a policy looks at them; if not, a few are tried, and there are no predictions.

    Raises:
        InputError: the network fails on them, or its output is not finite.
    """
    images = suited(dense, images)
    images = each(images, lambda part: part.clone() if part.is_inference() else part)  # else no gradient could be taken
    predicted: list[Tensor | None] = []
    try:
        with seeded(), evaluating(dense):
            for part in split(images if are_read else fewest(dense, images), _AT_ONCE):
                output = call(dense, part)
                require_finite(output)
                predicted.append(_classes(output, count(part)) if are_read else None)
    except InputError:
        raise
    except Exception as error:  # whatever the network's own code raises
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        shapes = ", ".join(str(tuple(value.shape[1:])) for value in tensors(images))
        raise InputError(f"the model fails on images of shape {shapes}: {reason}. Call it as you use it.") from error
    classes = [part for part in predicted if part is not None]
    return Placed(
        images, torch.cat(classes) if len(classes) == len(predicted) else None, next(dense.parameters()).device
    )


def _classes(output: Any, number: int) -> Tensor | None:
    """(number,) the class that the first output tells for each image, if that is logits (number, C), C at least 2."""
    logits = next(tensors(output), None)
    if (
        logits is None
        or logits.layout is not torch.strided
        or logits.dim() != 2
        or len(logits) != number
        or logits.shape[1] < 2
    ):
        return None
    classes: Tensor = (logits.abs() if logits.is_complex() else logits).argmax(1)
    return classes


def form(images: Images) -> Any:
    """How a network is called, as JSON has it: shapes without the batch, types, structure; other values as they are."""
    if isinstance(images, Tensor):
        return {"shape": list(images.shape[1:]), "dtype": str(images.dtype).removeprefix("torch.")}
    if isinstance(images, Mapping):
        return {"named": {name: form(value) for name, value in images.items()}}
    if isinstance(images, (list, tuple)):
        return {"several": [form(value) for value in images]}
    return {"value": images if isinstance(images, (bool, int, float, str, type(None))) else None}


def blank(form: Any, number: int) -> Images:
    """Images of such a form that hold zeros."""
    if "shape" in form:
        return torch.zeros(number, *form["shape"], dtype=getattr(torch, form["dtype"]))
    if "named" in form:
        return {name: blank(value, number) for name, value in form["named"].items()}
    if "several" in form:
        return tuple(blank(value, number) for value in form["several"])
    return form["value"]
