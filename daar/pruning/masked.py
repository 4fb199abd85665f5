"""The masked network: the dense one with removed channels zeroed in whatever sums over them, which defines pruning."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from daar.device.precision import evaluating
from daar.errors import InputError
from daar.program.dispatch import DispatchMode
from daar.program.draws import Draws
from daar.program.inputs import Images, call_on_own, usable
from daar.program.outputs import tensors
from daar.program.program import Program, Ref
from daar.program.recording import decomposed, recorded
from daar.pruning.groups import ChannelGraph, graph_from
from daar.pruning.slim import Removed

# gets the index of an operation and what it returned
See = Callable[[int, Any], None]


class AnotherWayError(Exception):
    """A run takes another way than the program: the operation of this index is another."""

    def __init__(self, index: int) -> None:
        super().__init__(f"operation {index} is another than in the recorded run")
        self.index = index


# operation → what it reads: number of the tensor, dimension, which of its positions are left
Masks = dict[int, list[tuple[int, int, Tensor]]]


def masks_of(graph: ChannelGraph, removed: Removed) -> Masks:
    """What is zeroed where channels are gone."""
    alive, masks = graph.alive(removed), Masks()
    for read in graph.reads:
        if not (left := alive[read.labels]).all():
            masks.setdefault(read.operation, []).append((read.tensor, read.dim, torch.from_numpy(left)))
    return masks


def zeroed(value: Tensor, dim: int, left: Tensor) -> Tensor:
    """A tensor with zeros at the positions of a dimension that are not left."""
    shape = [1] * value.dim()
    shape[dim] = len(left)
    return value * left.to(value).view(shape)


class Masked:
    """Runs the dense network's own code on its untouched weights, with removed channels zeroed where they are read.

    Zeroing what is read, and not the weights that produce it, is what makes BN's shift and pre-activation networks come
    out right. Independent of `slim`.

    Args:
        model: the dense network; left as it is.
        graph: its channel graph.
        removed: group name → indices of the channels that go.

    Attributes:
        graph: that of the last run, which may have been another program.
        alive: which of its channels are left.
        draws: the random numbers of the last run.
    """

    def __init__(self, model: nn.Module, graph: ChannelGraph, removed: Removed) -> None:
        self._model, self._removed = model, removed
        self._take(graph)

    def _take(self, graph: ChannelGraph) -> None:
        self.graph, self.draws, self.alive = graph, Draws(graph.program), graph.alive(self._removed)
        self._masks = masks_of(graph, self._removed)

    def __call__(self, images: Images, see: See | None = None) -> Any:
        """What the network returns in eval mode; `see` gets what each operation returned.

        Raises:
            InputError: on these images it runs other operations than those of the graph, and has other groups; or which
                it runs depends on values.
        """
        try:
            return self._run(images, see)
        except AnotherWayError:  # on another device, in another type or for one image torch may take another way
            here = graph_from(
                recorded(self._model, images),
                self._model,
                self.graph.exclude,
                self.graph.repairs,
                self.graph.training,
            )
            if _sizes(here) != _sizes(self.graph):
                raise InputError(
                    "the network should have the same channel groups on all images, but on these it runs other "
                    "operations, with other groups. Give images of one kind, and as many as it is used with."
                ) from None
            self._take(here)
        try:
            return self._run(images, see)
        except AnotherWayError as error:
            place = self.graph.program.operations[min(error.index, len(self.graph.program.operations) - 1)].place()
            raise InputError(
                f"what the network runs should not depend on values, but from {place} on it does, such as where boxes "
                "are chosen by their scores. Prune it up to there: a module that returns what is computed before."
            ) from None

    def _run(self, images: Images, see: See | None) -> Any:
        changed = _Changed(self.graph.program, self._masks, see)
        with evaluating(self._model), decomposed():
            images = usable(images)
            try:
                with self.draws.kept(next(tensors(images)).device), changed:
                    return call_on_own(self._model, images)
            except RuntimeError as error:  # scripted code raises all that is raised in it as one of its own
                if changed.another is not None:
                    raise AnotherWayError(changed.another) from error
                raise


def _sizes(graph: ChannelGraph) -> list[tuple[str, int]]:
    return [(group.name, group.size) for group in (*graph.groups, *graph.units)]


class _Changed(DispatchMode):
    def __init__(self, program: Program, masks: Masks, see: See | None) -> None:
        super().__init__()
        self._operations, self._masks, self._see = program.operations, masks, see
        self._index = 0
        self.another: int | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        index = self._index
        self._index += 1
        if index >= len(self._operations) or self._operations[index].function is not func:
            raise self._other_way(index)
        if index in self._masks:
            args = list(args)
            for tensor, dim, left in self._masks[index]:
                at = self._operations[index].args.index(Ref(tensor))
                if args[at].shape[dim] != len(left):  # images are folded into channels, and there are more of them
                    raise self._other_way(index)
                args[at] = zeroed(args[at], dim, left)
        result = func(*args, **(kwargs or {}))
        if self._see is not None:
            self._see(index, written(result, func))
        return result

    def _other_way(self, index: int) -> AnotherWayError:
        self.another = index
        return AnotherWayError(index)


# what these return is memory that nothing was written to
_EMPTY = ("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided")


def written(result: Any, function: Any) -> Any:
    """A result to compare: zeros where an operation leaves its memory as it is."""
    return result.zero_() if function.overloadpacket.__name__ in _EMPTY and result.numel() else result
