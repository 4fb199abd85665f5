"""Prove that a slim network computes what the masked one computes; find where they first differ, and repair the groups.

Rules follow operations and cannot see where a number in the code came from. So removal of random channels is proposed
and proven; where the slim network raises or differs, an integer that is a number of channels gets its new value, or an
ambiguous operation its other reading, or the channels that the operation reads stay. Each is tried under the same proof
and holds only if the first difference moves on.
"""

import copy
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from daar.device.precision import evaluating
from daar.errors import InputError
from daar.program.inputs import Images, call, moved
from daar.program.outputs import tensors
from daar.program.program import Operation, refs
from daar.program.recording import decomposed, recorded
from daar.pruning.groups import ChannelGraph, graph_from
from daar.pruning.masked import Masked
from daar.pruning.repairs import Repairs
from daar.pruning.slim import Removed, slim

# largest |slim − masked| / largest |output| that rounding in float64 explains
TOLERANCE = 1e-10
# images on which slim and masked network are compared
CHECKED_IMAGES = 16
_MOST_REPAIRS = 60
_DOUBLE = torch.empty(0, dtype=torch.float64)


@dataclass(frozen=True)
class Difference:
    """Where the slim network first does something else than the masked one.

    Attributes:
        index: of the operation.
        what: what it does, a phrase.
    """

    index: int
    what: str


def proven_graph(model: nn.Module, images: Images, exclude: Iterable[str] = ()) -> tuple[ChannelGraph, Repairs]:
    """The channel groups of any network, with what a proof had to repair.

    Args:
        model: the dense network; left as it is.
        images: finite, few: two where the network runs on two; their values matter.
        exclude: paths of modules whose convs keep all their filters.

    Raises:
        InputError: the network fails on the images, or differs however much is kept.
    """
    names = tuple(exclude)
    double, batch = _double(model), moved(images, _DOUBLE)
    program = recorded(double, batch)
    repairs = Repairs()
    graph = graph_from(program, double, names, repairs)
    difference = _try(double, graph, batch)
    for _ in range(_MOST_REPAIRS):
        if difference is None:
            return graph, repairs
        for candidate in _candidates(double, graph, repairs, difference):
            tried = graph_from(program, double, names, candidate)
            later = _try(double, tried, batch)
            if later is None or later.index > difference.index:
                graph, repairs, difference = tried, candidate, later
                break
        else:
            break
    raise InputError(
        f"the slim network differs from the masked one at {program.operations[difference.index].place()}: "
        f"{difference.what}. Report this network: its channels are coupled in a way that the groups miss."
    )


def _double(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).cpu().double()


def _try(model: nn.Module, graph: ChannelGraph, images: Images) -> Difference | None:
    removed = some_removed(graph)
    return first_difference(model, slim(model, graph, removed), graph, removed, images)


def some_removed(graph: ChannelGraph, seed: int = 0) -> Removed:
    """Random channels of every group that may be pruned: half, or as many as may go."""
    dice = random.Random(seed)
    removed = {}
    for group in graph.in_scope("all"):
        stay: set[int] = set()
        for part, more in group.reserves:
            stay.update(dice.sample(sorted(part - stay), min(more, len(part - stay))))
        free = [index for index in range(group.size) if index not in stay]
        removed[group.name] = sorted(dice.sample(free, min(len(free), group.size // 2)))
    return removed


def first_difference(
    model: nn.Module, slimmed: nn.Module, graph: ChannelGraph, removed: Removed, images: Images
) -> Difference | None:
    """Where the slim network first differs from the masked one by more than rounding; None where it does not.

    Operation by operation: another one, another shape, or other values where channels are left.
    """
    seen: list[Any] = []
    masked = Masked(model, graph, removed)
    masked(images, see=lambda _, result: seen.append(_copied(result)))
    watch = _Compared(graph, graph.alive(removed), seen)
    try:
        with evaluating(slimmed), decomposed(), watch:
            call(slimmed, images)
    except _Differs as found:
        return found.difference
    except Exception as error:  # whatever the network's own code raises
        return Difference(min(watch.index, len(seen) - 1), " ".join(str(error).split())[:200])
    return None


class _Differs(Exception):
    def __init__(self, difference: Difference) -> None:
        super().__init__(difference.what)
        self.difference = difference


class _Compared(TorchDispatchMode):
    def __init__(self, graph: ChannelGraph, alive: Any, seen: list[Any]) -> None:
        super().__init__()
        self._operations, self._tensors, self._alive, self._seen = graph.program.operations, graph.tensors, alive, seen
        self.index = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        index = self.index
        if index >= len(self._operations) or self._operations[index].function is not func:
            raise _Differs(Difference(min(index, len(self._operations) - 1), "the code takes another way"))
        result = func(*args, **(kwargs or {}))
        self._compare(index, result)
        self.index += 1
        return result

    def _compare(self, index: int, result: Any) -> None:
        operation = self._operations[index]
        expected = list(tensors(self._seen[index]))
        for ref, one, other in zip(refs(operation.result), tensors(result), expected, strict=True):
            dims = self._tensors[ref.number]
            for dim, labels in enumerate(dims):
                if labels is not None and not (left := self._alive[labels]).all():
                    other = other.index_select(dim, torch.from_numpy(np.flatnonzero(left)))
            if one.shape != other.shape:
                if any(labels is not None and (labels == -1).any() for labels in dims):
                    continue  # constants of the code, whose size follows from something else
                what = f"its shape is {tuple(one.shape)}, where {tuple(other.shape)} is left"
                raise _Differs(Difference(index, what))
            if one.is_floating_point() and not _equal(one, other) and operation.name not in _MEANINGLESS:
                raise _Differs(Difference(index, "its values differ"))


# what these return is memory that nothing was written to
_MEANINGLESS = ("empty", "empty_like", "new_empty", "empty_strided")


def _equal(one: Tensor, other: Tensor) -> bool:
    scale = float(other.abs().max()) if other.numel() else 0.0
    return bool(torch.equal(one, other)) or float((one - other).abs().max()) <= TOLERANCE * max(scale, 1e-30)


def _copied(result: Any) -> Any:
    if isinstance(result, Tensor):
        return result.detach().clone()
    return [_copied(part) for part in result] if isinstance(result, (list, tuple)) else result


def _candidates(model: nn.Module, graph: ChannelGraph, repairs: Repairs, difference: Difference) -> Iterator[Repairs]:
    """What may be meant, the likeliest first."""
    operation = graph.program.operations[difference.index]
    for attribute, where in _attributes(model, graph, operation):
        if attribute not in repairs.attributes:
            yield replace(repairs, attributes={**repairs.attributes, attribute: where})
    for index in _ambiguous_before(graph, operation):
        source = graph.program.operations[index].source
        for reading in range(repairs.readings.get(source, 0) + 1, graph.ambiguous[index] + 1):
            yield replace(repairs, readings={**repairs.readings, source: reading})
    yield replace(
        repairs, kept={**repairs.kept, operation.source: f"relies on a number of channels ({difference.what})"}
    )
    # where all that it reads stays already, what comes before it is meant
    upstream = [graph.program.operations[index] for index in range(operation.index - 1, -1, -1)]
    for other in upstream[:8]:
        if other.source not in repairs.kept:
            why = f"leads to {operation.place()}, which differs"
            yield replace(repairs, kept={**repairs.kept, other.source: why})


def _attributes(
    model: nn.Module, graph: ChannelGraph, operation: Operation
) -> Iterator[tuple[tuple[str, str], tuple[str, int, int]]]:
    """Integers of the modules that were running that equal a number of channels of the operation's tensors."""
    for position, number in enumerate([*operation.reads(), *operation.makes()]):
        for dim, labels in enumerate(graph.tensors[number]):
            if labels is None:
                continue
            for path in _upwards(operation.module):
                module = model.get_submodule(path)
                for name in _holding(module, len(labels)):
                    yield (type(module).__qualname__, name), (operation.source, position, dim)


def _upwards(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""


def _holding(module: nn.Module, size: int) -> Iterator[str]:
    for name, value in vars(module).items():
        if type(value) is int and value == size:
            yield name
        elif isinstance(value, (list, tuple)):
            yield from (f"{name}.{index}" for index, entry in enumerate(value) if type(entry) is int and entry == size)


def _ambiguous_before(graph: ChannelGraph, operation: Operation) -> list[int]:
    """Operations that may be read in several ways and lead to this one, the nearest first."""
    makers = {number: op.index for op in graph.program.operations for number in op.makes()}
    waiting, found, seen = [operation.index], [], set()
    while waiting and len(seen) < 400:
        index = waiting.pop(0)
        if index in seen:
            continue
        seen.add(index)
        if index in graph.ambiguous:
            found.append(index)
        waiting.extend(makers[number] for number in graph.program.operations[index].reads() if number in makers)
    return found[:4]


def slim_error(model: nn.Module, slimmed: nn.Module, graph: ChannelGraph, removed: Removed, images: Images) -> float:
    """Max |slim − masked| / max |masked| over the outputs for `images`, in float64 on the CPU; of several, the worst.

    Raises:
        InputError: they differ by more than rounding explains, so the slim network is not the pruned one; or the masked
            one gives nothing but zeros, of which a wrong one would be equal too.
    """
    dense, thin, images = _double(model), _double(slimmed), moved(images, _DOUBLE)
    expected = Masked(dense, graph, removed)(images)
    if not any(bool(output.any()) for output in tensors(expected)):
        raise InputError(
            "the network's output should tell images apart, but is zero for all, so that the slim network cannot be "
            "compared with it. Load trained weights, or give the last layer weights that are not all zero."
        )
    with evaluating(thin):
        pairs = list(zip(tensors(call(thin, images)), tensors(expected), strict=True))
        # of numpy's maximum, unlike Python's, NaN is the result wherever there is one
        error = float(np.max([_relative(one, other) for one, other in pairs]))
    if not error <= TOLERANCE:
        raise InputError(
            f"the slim network differs from the masked one by {error:.1e} of the largest logit; rounding explains "
            f"{TOLERANCE:.0e}. Report this network: its channels are coupled in a way that the groups miss."
        )
    return error


def _relative(one: Tensor, other: Tensor) -> float:
    """Max |difference| / max |other|; of two outputs that are all zero it is 0."""
    difference = float((one - other).abs().max())
    return difference / float(other.abs().max()) if difference else 0.0
