"""Networks whose weights are of several types, or of few digits: how they are called, and proven in one type."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from daar.device.precision import evaluating
from daar.errors import InputError
from daar.program.dispatch import DispatchMode
from daar.program.draws import seeded
from daar.program.inputs import Images, call, each, fewest, moved
from daar.program.module_hooks import around_modules
from daar.program.outputs import tensors
from daar.pruning.proof import InexactError

Made = TypeVar("Made")


def suited(model: nn.Module, images: Images) -> Images:
    """Images where a network is, floating-point numbers of the type of its weights.

    Where these are of several types, the images keep theirs if the network runs on them: which weights come first says
    nothing then.
    """
    weight = next(model.parameters())
    alike = moved(images, weight if weight.is_floating_point() else torch.empty(0, device=weight.device))
    if len(_types(model)) < 2:
        return alike
    as_given = each(images, lambda part: part.to(weight.device))
    try:
        with seeded(), evaluating(model):
            call(model, fewest(model, as_given))
    except Exception:  # whatever the network's own code raises
        return alike
    return as_given


def in_one_type(model: nn.Module, prove: Callable[[], Made]) -> Made:
    """What a proof gives; for a network with weights of few digits, with its code's casts all to float64.

    A proof converts weights and images to float64, so that code which casts to float16 inside would fail. Where the
    network does not run with all of it in float64, its own casts hold, as in any network.

    Args:
        model: the network, in its own types.
        prove: runs networks in float64.

    Raises:
        InputError: as of `prove`.
    """
    if _types(model) <= {torch.float32} or _types(model) <= {torch.float64}:
        return prove()
    try:
        with _Double().acting():
            return prove()
    except InexactError:
        raise
    except InputError:
        return prove()


def _types(model: nn.Module) -> set[torch.dtype]:
    held = [*model.parameters(), *model.buffers()]
    return {value.dtype for value in held if value.is_floating_point() or value.is_complex()}


class _Double(DispatchMode):
    """Floating-point numbers that a network's code makes, or casts to another type, are of float64.

    Within modules alone: what copies networks puts their own types back.
    """

    def __init__(self) -> None:
        super().__init__()
        self._inside = 0

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Change types within."""
        with around_modules(self._enter, self._leave), self:
            yield

    def _enter(self, *_: Any) -> None:
        self._inside += 1

    def _leave(self, *_: Any) -> None:
        self._inside -= 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self._inside:
            return func(*args, **(kwargs or {}))
        kwargs = {name: _double(value) for name, value in (kwargs or {}).items()}
        result = func(*args, **kwargs)
        made = func is torch.ops.aten.lift_fresh.default or not any(True for _ in tensors([list(args), kwargs]))
        return _double(result) if made else result


def _double(value: Any) -> Any:
    """A type, or a tensor, of numbers with as many digits as float64 has; anything else as it is."""
    kind = value.dtype if isinstance(value, Tensor) else value
    if not isinstance(kind, torch.dtype) or not (kind.is_floating_point or kind.is_complex):
        return value
    wide = torch.complex128 if kind.is_complex else torch.float64
    return value.to(wide) if isinstance(value, Tensor) else wide
