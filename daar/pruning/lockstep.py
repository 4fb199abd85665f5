"""Run a slim network next to the masked one, operation by operation, and find where they first differ."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from daar.device.precision import evaluating
from daar.errors import said
from daar.models.shortcut import PaddedShortcut
from daar.program.dispatch import DispatchMode
from daar.program.draws import seeded
from daar.program.inputs import Images, call_on_own, usable
from daar.program.outputs import tensors
from daar.program.program import Operation, Span, refs
from daar.program.recording import decomposed
from daar.pruning.groups import ChannelGraph
from daar.pruning.layer import Channels
from daar.pruning.masked import Masked, written
from daar.pruning.slim import Removed


@dataclass(frozen=True)
class Difference:
    """Where the slim network first does something else than the masked one.

    Attributes:
        index: of the operation.
        what: what it does, a phrase.
        place: where the operation stands in the network's code.
        trial: which of the removals that are tried shows it.
    """

    index: int
    what: str
    place: str = ""
    trial: int = 0

    def is_before(self, other: "Difference") -> bool:
        """Whether it shows earlier."""
        return (self.trial, self.index) < (other.trial, other.index)


@dataclass(frozen=True)
class Comparison:
    """What a slim network did next to the masked one.

    Attributes:
        difference: the first; None without one.
        is_decided: whether rounding turned what is decided by values, and the slim network was given what the masked
            one decided.
    """

    difference: Difference | None
    is_decided: bool


def first_difference(
    model: nn.Module, slimmed: nn.Module, graph: ChannelGraph, removed: Removed, images: Images, tolerance: float
) -> Difference | None:
    """Where the slim network first differs from the masked one by more than rounding; None where it does not."""
    return compared(model, slimmed, graph, removed, images, tolerance).difference


def compared(
    model: nn.Module, slimmed: nn.Module, graph: ChannelGraph, removed: Removed, images: Images, tolerance: float
) -> Comparison:
    """Run a slim network next to the masked one, up to the first difference by more than rounding.

    Operation by operation: another one, another shape, or other values where channels are left. Rounding may turn what
    is decided by values, as the order of boxes of one score: where all that such an operation reads is equal, the slim
    network goes on with what the masked one decided.
    """
    seen: dict[int, Any] = {}
    masked = Masked(model, graph, removed)
    with seeded():
        masked(images, see=lambda index, result: seen.__setitem__(index, _copied(result)))
    own = usable(images)
    watch = _Compared(masked.graph, masked.alive, seen, tolerance)
    try:
        with seeded(), evaluating(slimmed), decomposed(), watch.over_shortcuts(slimmed), drawn_by(masked), watch:
            call_on_own(slimmed, own)
    except _DiffersError as found:
        difference = found.difference
    except Exception as error:  # whatever the network's own code raises
        difference = Difference(min(watch.index, len(seen) - 1), said(error))
    else:
        return Comparison(None, watch.is_decided)
    place = masked.graph.program.operations[difference.index].place()
    return Comparison(replace(difference, place=place), watch.is_decided)


def drawn_by(masked: Masked) -> AbstractContextManager[None]:
    """With the random numbers that the masked network drew on the CPU, those of the channels that are left."""
    draws, graph, alive = masked.draws, masked.graph, masked.alive  # not the network, which may go
    return draws.again(torch.device("cpu"), lambda kept, number: _left(kept, graph.tensors[number], alive))


def _left(whole: Tensor, dims: tuple[Channels | None, ...], alive: NDArray[np.bool_]) -> Tensor:
    """What is left of a tensor of the masked network in the slim one."""
    for dim, labels in enumerate(dims):
        if labels is not None and not (left := alive[labels]).all():
            whole = whole.index_select(dim, torch.from_numpy(np.flatnonzero(left)))
    return whole


class _DiffersError(Exception):
    def __init__(self, difference: Difference) -> None:
        super().__init__(difference.what)
        self.difference = difference


class _Compared(DispatchMode):
    def __init__(self, graph: ChannelGraph, alive: NDArray[np.bool_], seen: dict[int, Any], tolerance: float) -> None:
        super().__init__()
        self._operations, self._tensors, self._alive, self._seen = graph.program.operations, graph.tensors, alive, seen
        self.index, self.is_decided, self._tolerance = 0, False, tolerance
        self._spans = sorted(graph.program.spans, key=lambda span: span.first)
        self._within = False

    @contextmanager
    def over_shortcuts(self, slimmed: nn.Module) -> Iterator[None]:
        """Compare only what a padded shortcut returns: which way it takes depends on what is left of its channels."""
        paths = {module: path for path, module in slimmed.named_modules() if isinstance(module, PaddedShortcut)}
        spans = iter([span for span in self._spans if span.module in paths.values()])
        hooks = [module.register_forward_pre_hook(self._enter) for module in paths]
        hooks += [module.register_forward_hook(lambda *call: self._leave(next(spans), call[2])) for module in paths]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, _module: nn.Module, _args: Any) -> None:
        self._within = True

    def _leave(self, span: Span, result: Any) -> None:
        self._compare(span.last - 1, result, 0.0)
        self._within, self.index = False, span.last

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._within:
            return func(*args, **(kwargs or {}))
        index = self.index
        if index >= len(self._operations) or self._operations[index].function is not func:
            raise _DiffersError(Difference(min(index, len(self._operations) - 1), "the code takes another way"))
        # rounding is relative to what an operation reads: the mean of a normalised map is next to nothing
        read = max((_largest(value) for value in tensors(list(args))), default=0.0)
        result = written(func(*args, **(kwargs or {})), func)
        result = self._compare(index, result, read)
        self.index += 1
        return result

    def _compare(self, index: int, result: Any, read: float) -> Any:
        """The result to go on with."""
        operation = self._operations[index]
        made = list(tensors(result))
        for place, (ref, one, whole) in enumerate(
            zip(refs(operation.result), made, tensors(self._seen[index]), strict=True)
        ):
            dims = self._tensors[ref.number]
            other = _left(whole, dims, self._alive)
            if one.shape != other.shape:
                if any(labels is not None and (labels == -1).any() for labels in dims):
                    continue  # constants of the code, whose size follows from something else
                what = f"its shape is {tuple(one.shape)}, where {tuple(other.shape)} is left"
                raise _DiffersError(Difference(index, what))
            if is_measured(one):
                if not self._equal(one, other, read):
                    raise _DiffersError(Difference(index, "its values differ"))
            elif not one.is_floating_point() and not one.is_complex() and not torch.equal(one, other):
                if not self._is_decided_alike(operation, dims):
                    raise _DiffersError(Difference(index, "its values differ"))
                made[place], self.is_decided = other.clone(), True
        return _rebuilt(result, iter(made))

    def _equal(self, one: Tensor, other: Tensor, read: float) -> bool:
        if torch.equal(one, other):
            return True
        apart = torch.where(one == other, 0, one - other)  # padding with -inf, as masks and pools do, is equal
        return bool(apart.isfinite().all()) and _largest(apart) <= self._tolerance * max(_largest(other), read)

    def _is_decided_alike(self, operation: Operation, dims: tuple[Channels | None, ...]) -> bool:
        """Whether whole numbers, such as an order, are one in both: nothing is read cut, or they are cut alike."""
        read = [self._tensors[number] for number in operation.reads()]
        return not any(map(self._is_cut, read)) or self._is_cut(dims)

    def _is_cut(self, dims: tuple[Channels | None, ...]) -> bool:
        return any(labels is not None and not self._alive[labels].all() for labels in dims)


def _rebuilt(result: Any, made: Iterator[Tensor]) -> Any:
    """A result with these tensors, in the order of `tensors`."""
    if isinstance(result, Tensor):
        return next(made)
    return type(result)(_rebuilt(part, made) for part in result) if isinstance(result, (list, tuple)) else result


def is_measured(values: Tensor) -> bool:
    """Whether a tensor is of numbers that rounding may change; of no view that is only marked as a conjugate."""
    return (values.is_floating_point() or values.is_complex()) and not (values.is_conj() or values.is_neg())


def _largest(values: Tensor) -> float:
    """The largest finite absolute value; 0 where there is none."""
    if not is_measured(values) or not values.numel():
        return 0.0
    return float(values.abs().nan_to_num(0.0, 0.0).max())


def _copied(result: Any) -> Any:
    if isinstance(result, Tensor):
        return result.detach().clone()
    return [_copied(part) for part in result] if isinstance(result, (list, tuple)) else result
