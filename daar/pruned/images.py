"""The images that were given, in whatever form: one batch, as the network is called, and labels."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from daar.device.precision import evaluating
from daar.errors import InputError, in_one_line, is_out_of_memory
from daar.measure.finite import require_finite
from daar.program.inputs import Images, call, count, each, moved, split
from daar.program.outputs import tensors
from daar.pruning.scoring import Batch

_FORMS = (
    "a tensor (N, …), a tuple or dict of tensors as the network is called with, or batches of them, as of a DataLoader"
)
# keys of a batch by which loaders name labels
_LABELS = ("labels", "label", "targets", "target")
# images per forward pass
_AT_ONCE = 64


def collected(model: nn.Module, images: Any, labels: Any, wanted: int) -> tuple[Images, Tensor | None]:
    """One batch of images, and their labels if there are any.

    Args:
        model: whose arguments tell labels from a further input.
        images: a tensor, a tuple or dict of tensors, or batches of them, with or without labels.
        labels: (N,), or None.
        wanted: images to take of batches; all of anything else are taken.

    Raises:
        InputError: they are none of these, are empty or not finite, or there are two kinds of labels.
    """
    if isinstance(images, (Tensor, Mapping, tuple)):
        taken, own = _divided(model, images)
    elif isinstance(images, Iterable) and not isinstance(images, (str, bytes)):
        taken, own = _of_batches(model, images, wanted)
    else:
        raise InputError(f"images are a {type(images).__name__}; they must be {_FORMS}.")
    require(taken)
    if own is not None and labels is not None:
        raise InputError("labels are given twice, with the images and by themselves. Give them once.")
    labels = own if labels is None else labels
    if labels is not None and (not isinstance(labels, Tensor) or tuple(labels.shape) != (count(taken),)):
        what = str(tuple(labels.shape)) if isinstance(labels, Tensor) else type(labels).__name__
        raise InputError(f"labels are {what}; they must be a tensor ({count(taken)},), one for each image.")
    return taken, labels


def _of_batches(model: nn.Module, batches: Iterable[Any], wanted: int) -> tuple[Images, Tensor | None]:
    if isinstance(batches, list) and _is_labelled(batches):  # one batch of a DataLoader
        return _divided(model, tuple(batches))
    parts: list[tuple[Images, Tensor | None]] = []
    there = 0
    for batch in batches:
        part, labels = _divided(model, batch)
        require(part)
        parts.append((part, labels))
        there += count(part)
        if there >= wanted:
            break
    if not parts:
        raise InputError(f"images hold no batch; they must be {_FORMS}. A generator that was used up gives none.")
    try:
        joined = _joined([part for part, _ in parts])
    except (RuntimeError, TypeError, KeyError, ValueError) as error:
        said = in_one_line(str(error)).rstrip(".")
        raise InputError(
            f"the batches of images do not fit together: {said}. Give images of one size, resized or cropped alike."
        ) from error
    told = [labels for _, labels in parts if labels is not None]
    return each(joined, lambda part: part[:wanted]), torch.cat(told)[:wanted] if len(told) == len(parts) else None


def _joined(parts: list[Images]) -> Images:
    one = parts[0]
    if isinstance(one, Tensor):
        return torch.cat(parts)
    if isinstance(one, Mapping):
        return {name: _joined([part[name] for part in parts]) for name in one}
    if isinstance(one, (list, tuple)):
        return type(one)(_joined(list(several)) for several in zip(*parts, strict=True))
    return one


def _divided(model: nn.Module, batch: Any) -> tuple[Images, Tensor | None]:
    """What the network is called with, and labels: what a batch has more than the network takes.

    Targets that are no class per image are left out: methods read classes alone.
    """
    required, most, names = _arguments(model)
    if isinstance(batch, Mapping):
        more = [] if names is None else [key for key in batch if key not in names and key in _LABELS]
        labels = next((batch[key] for key in more if _are_labels(batch[key])), None)
        return {key: value for key, value in batch.items() if key not in more}, labels
    if isinstance(batch, (list, tuple)):  # a plain tuple from here on, also of a named one
        length = len(batch)
        if length > 1 and (length > most or (length > required and _is_labelled(batch))):
            images, target = batch[:-1], batch[-1]
            return images[0] if length == 2 else tuple(images), target if _are_labels(target) else None
        return (batch[0] if length == 1 else tuple(batch)), None
    return batch, None


def _arguments(model: nn.Module) -> tuple[int, float, set[str] | None]:
    """How many positional arguments the network must and can have, and names of all; None where it takes any."""
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        return 1, float("inf"), None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    kinds = {p.kind for p in parameters}
    most = float("inf") if inspect.Parameter.VAR_POSITIONAL in kinds else len(positional)
    names = None if inspect.Parameter.VAR_KEYWORD in kinds else {p.name for p in parameters}
    return max(1, sum(p.default is p.empty for p in positional)), most, names


def _is_labelled(batch: Any) -> bool:
    """Whether the last of several tensors is one class for each image of the first."""
    several = len(batch) > 1 and isinstance(batch[0], Tensor) and batch[0].dim() > 1
    return several and _are_labels(batch[-1]) and len(batch[-1]) == len(batch[0])


def _are_labels(value: Any) -> bool:
    return (
        isinstance(value, Tensor) and value.dim() == 1 and not value.is_floating_point() and value.dtype != torch.bool
    )


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


def placed(dense: nn.Module, images: Images, labels: Tensor | None) -> Batch:
    """The images where the network is, with labels or the network's predictions; tries all in a forward pass.

    Floating-point numbers get the type of the network's weights; integers, such as tokens, stay what they are.

    Raises:
        InputError: the network fails on them, or its output is not finite.
    """
    weight = next(dense.parameters())
    images = moved(images, weight if weight.is_floating_point() else torch.empty(0, device=weight.device))
    images = each(images, lambda part: part.clone() if part.is_inference() else part)  # else no gradient could be taken
    predicted = []
    try:
        with evaluating(dense):
            for part in split(images, _AT_ONCE):
                output = call(dense, part)
                require_finite(output)
                predicted.append(_classes(output, count(part)))
    except InputError:
        raise
    except Exception as error:  # whatever the network's own code raises
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        shapes = ", ".join(str(tuple(value.shape[1:])) for value in tensors(images))
        raise InputError(f"the model fails on images of shape {shapes}: {reason}. Call it as you use it.") from error
    return Batch(images, torch.cat(predicted) if labels is None else labels.to(torch.int64)).to(weight.device)


def _classes(output: Any, number: int) -> Tensor:
    """(number,) the class that the first output tells for each image; zeros where it is none."""
    output = next(tensors(output), None)
    if output is None or output.dim() < 1 or len(output) != number or not output.numel():
        return torch.zeros(number, dtype=torch.int64)
    values = output.abs() if output.is_complex() else output
    classes: Tensor = values.reshape(number, -1).argmax(1)
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
