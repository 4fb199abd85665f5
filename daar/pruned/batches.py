"""A batch as a loader gives it: what the network is called with, and the labels."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from daar.device.precision import evaluating
from daar.program.draws import seeded
from daar.program.inputs import Images, call, fewest
from daar.pruned.mixed_types import suited

# keys of a batch, and optional arguments of a network, by which labels are named
_LABELS = ("labels", "label", "targets", "target", "y", "gt", "mask", "masks")
# of these, names of arguments that are inputs where a dict gives them: attention masks
_MAYBE_INPUTS = ("y", "gt", "mask", "masks")


@dataclass(frozen=True)
class _Forward:
    """What a network's forward takes.

    Attributes:
        signature: None where Python does not know it.
        least: positional arguments that it must have, 1 or more.
        most: positional arguments that are inputs: those before an optional one that is named like labels.
    """

    signature: inspect.Signature | None
    least: int = 1
    most: float = float("inf")

    def is_argument(self, name: str) -> bool:
        """Whether a dict may give this argument."""
        if self.signature is None:
            return True
        parameters = self.signature.parameters.values()
        return name in self.signature.parameters or any(p.kind is p.VAR_KEYWORD for p in parameters)

    def is_optional(self, name: str) -> bool:
        """Whether it has an argument of that name, with a default."""
        parameter = None if self.signature is None else self.signature.parameters.get(name)
        return parameter is not None and parameter.default is not parameter.empty

    def takes(self, *args: Any, **kwargs: Any) -> bool:
        """Whether it can be called so, as far as Python knows."""
        try:
            if self.signature is not None:
                self.signature.bind(*args, **kwargs)
        except TypeError:
            return False
        return True


def inputs_of(model: nn.Module) -> list[str]:
    """Names of the positional arguments that the network must have."""
    signature = _forward(model).signature
    return [] if signature is None else [p.name for p in _positional(signature) if p.default is p.empty]


def divided(model: nn.Module, batch: Any) -> tuple[Images, Any]:
    """What the network is called with, and labels: what a batch has more than the network takes.

    Where a batch can be read in several ways, it is the first in which the network runs; without one, the first.
    """
    forward = _forward(model)
    if isinstance(batch, Mapping):
        return _of_mapping(model, forward, batch)
    if not isinstance(batch, (list, tuple)):
        return batch, None
    if not batch:
        return (), None
    readings = _readings(forward, batch)
    some = (reading for reading in readings if len(readings) == 1 or _runs(model, reading[0]))
    return next(some, readings[0])


def is_one_batch(batch: Any) -> bool:
    """Whether a list is one batch of a DataLoader, inputs and labels, and not a list of batches."""
    if not isinstance(batch, list) or len(batch) < 2 or not isinstance(batch[-1], Tensor):
        return False
    if isinstance(batch[0], (Mapping, list, tuple)):
        return True
    # batches are of one rank
    alike = all(isinstance(part, Tensor) and part.dim() and len(part) == len(batch[0]) for part in batch)
    return alike and len({part.dim() for part in batch}) > 1


def _forward(model: nn.Module) -> _Forward:
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):
        return _Forward(None)
    positional = _positional(signature)
    most: float = len(positional)
    if any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values()):
        most = float("inf")
    targets = (i for i, p in enumerate(positional) if p.default is not p.empty and p.name in _LABELS)
    least = max(1, sum(p.default is p.empty for p in positional))
    return _Forward(signature, least, max(1, next(targets, most)))


def _positional(signature: inspect.Signature) -> list[inspect.Parameter]:
    return [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _of_mapping(model: nn.Module, forward: _Forward, batch: Mapping[str, Any]) -> tuple[Images, Any]:
    more = [
        key
        for key in _LABELS
        if key in batch and (not forward.is_argument(key) or (forward.is_optional(key) and key not in _MAYBE_INPUTS))
    ]
    images: Images = {key: value for key, value in batch.items() if key not in more}
    if not forward.takes(**images) and _runs(model, (images,)):  # forward(batch)
        images = (images,)
    return images, _first_tensor([batch[key] for key in more])


def _readings(forward: _Forward, batch: Sequence[Any]) -> list[tuple[Images, Any]]:
    """Every way to tell inputs from labels, the most likely first."""
    all_that_fit = most = int(min(len(batch), forward.most))
    while most > forward.least and _is_labelled(batch[:most]):
        most -= 1
    least = min(forward.least, most)
    numbers = [*range(most, least - 1, -1), *range(most + 1, all_that_fit + 1)]
    readings = [(_inputs(forward, batch[:number]), _first_tensor(batch[number:])) for number in numbers]
    if least > 1 and isinstance(batch[0], (Mapping, list, tuple)):  # ((image, depth), labels)
        readings.append((_inputs(forward, batch[:1]), _first_tensor(batch[1:])))
    return readings


def _inputs(forward: _Forward, parts: Sequence[Any]) -> Images:
    """The network's inputs: one tensor by itself, a plain tuple, or a dict."""
    if len(parts) > 1:
        return tuple(parts)
    [one] = parts
    if isinstance(one, Mapping):
        named = all(isinstance(key, str) for key in one) and forward.takes(**one)
        return one if named or not forward.takes(one) else (one,)
    if isinstance(one, (list, tuple)):
        return tuple(one) if forward.takes(*one) or not forward.takes(one) else (tuple(one),)
    return one


def _runs(model: nn.Module, images: Images) -> bool:
    """Whether the network runs on some of these."""
    try:
        some = fewest(model, suited(model, images))
        with seeded(), evaluating(model):
            call(model, some)
    except Exception:  # whatever the network's own code raises; where no reading runs, the caller says it
        return False
    return True


def _is_labelled(batch: Sequence[Any]) -> bool:
    """Whether the last of several tensors is one class for each image of the first."""
    if len(batch) < 2 or not isinstance(batch[0], Tensor) or not isinstance(batch[-1], Tensor) or batch[0].dim() < 2:
        return False
    last = batch[-1]
    whole = not last.is_floating_point() and not last.is_complex() and last.dtype != torch.bool
    return last.dim() == 1 and whole and len(last) == len(batch[0])


def _first_tensor(values: Sequence[Any]) -> Tensor | None:
    """The first of these that can be labels; lists of boxes and texts cannot."""
    return next((value for value in values if isinstance(value, Tensor) and value.dim() > 0), None)
