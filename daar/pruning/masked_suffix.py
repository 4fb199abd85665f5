"""The masked network from the first masked layer on: what comes before it is the dense one's, and is kept."""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from daar.device.precision import strict_float32
from daar.program.draws import Draws
from daar.program.inputs import Images, count
from daar.program.outputs import tensors
from daar.program.program import Operation, Program, Ref, refs, replaced
from daar.program.recording import decomposed, held_as
from daar.program.replay import Replay, changed, made_by, memories
from daar.pruning.groups import ChannelGraph
from daar.pruning.masked import Masks, masks_of, zeroed
from daar.pruning.slim import Removed

# bytes of the tensors that are kept at places, of all images
BUDGET = 1 << 30


@dataclass(frozen=True)
class _Kept:
    """What a dense run holds before an operation."""

    operation: int
    held: dict[int, Tensor]


def can_start_within(replay: Replay, graph: ChannelGraph) -> bool:
    """Whether a network runs the same operations for any number of images, and returns something for each."""
    program = graph.program
    return (
        replay.is_linear()
        and made_by(replay.program) == made_by(program)
        and all(replay.is_per_image(ref.number) for ref in refs(replay.program.output))
        and not Draws(program).operations
        and not changed(program)
        and all(replay.is_fixed(read.tensor, read.dim) for read in graph.reads)
    )


class _Step:
    """An operation that runs many times: the network's own tensors are in place, only those of the run are looked up.

    Args:
        operation: of the program.
        leaves: number → a tensor that is the same in each run.
        frees: numbers that nothing reads behind it.
    """

    def __init__(self, operation: Operation, leaves: dict[int, Tensor], frees: list[int]) -> None:
        self.frees, self._function, self._makes = frees, operation.function, operation.makes()
        self._is_one = isinstance(operation.result, Ref)
        args, kwargs = replaced((list(operation.args), operation.kwargs), Ref, lambda ref: leaves.get(ref.number, ref))
        self._args, self._kwargs = args, kwargs
        self._plain = [(at, value.number) for at, value in enumerate(args) if isinstance(value, Ref)]
        self._nested = [at for at, value in enumerate(args) if not isinstance(value, Ref) and any(refs(value))]
        self._is_named = any(refs(kwargs))

    def __call__(self, held: dict[int, Tensor], masks: Sequence[tuple[int, int, Tensor]] = ()) -> None:
        """Run it on the tensors held; masks: position of the argument, its dimension, which entries are left."""
        args, kwargs = self._args.copy(), self._kwargs
        for at, number in self._plain:
            args[at] = held[number]
        for at in self._nested:
            args[at] = replaced(args[at], Ref, lambda ref: held[ref.number])
        if self._is_named:
            kwargs = replaced(kwargs, Ref, lambda ref: held[ref.number])
        for at, dim, left in masks:
            args[at] = zeroed(args[at], dim, left)
        result = self._function(*args, **kwargs)
        if self._is_one:
            held[self._makes[0]] = result
        else:
            held.update(zip(self._makes, tensors(result), strict=True))
        for number in self.frees:
            held.pop(number, None)


class MaskedSuffix:
    """Runs a masked network from the last place before its first masked layer at which the dense run was kept.

    The operations are those of `Masked`, on the same numbers, so what it returns is the same to the bit.

    Args:
        model: the dense network; left as it is.
        graph: its channel graph.
        batches: the images, as they are run.
        replay: of the model, which `can_start_within` holds for.
        budget: the most bytes that `kept_bytes` may have, also while the dense network runs. Places are left out evenly
            to stay within, by what two images say of the others; then, batch by batch, those that do not fit after all.
    """

    def __init__(
        self, model: nn.Module, graph: ChannelGraph, batches: list[Images], replay: Replay, budget: int = BUDGET
    ) -> None:
        self._graph = graph
        self._sizes = [count(batch) for batch in batches]
        self._device = next(tensors(batches[0])).device
        program = graph.program
        leaves = {number: held_as(model, name) for number, name in program.leaves.items()} | program.constants
        last = _last_reads(program)
        self._programs = {size: replay.bound(size) for size in set(self._sizes)}
        self._steps = {
            size: [_Step(op, leaves, _unread_behind(op, last, leaves)) for op in bound.operations]
            for size, bound in self._programs.items()
        }
        self._leaves = leaves
        self._own = {_memory(value) for value in leaves.values()}
        self._kept: list[list[_Kept]] = []
        self.dense: list[Any] = []
        places = _within(self._places(), program, last, sum(self._sizes), budget)
        with strict_float32(), decomposed():
            for batch in batches:
                kept, output = self._run_dense(batch, places, budget)
                budget -= sum(self._memories(kept).values())
                self._kept.append(kept)
                self.dense.append(output)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the memory that is kept at places, each memory once and as a whole, also where a view of it is kept.

        What is there without any place does not count: the images, the network's own tensors and the dense outputs.
        """
        return sum(sum(self._memories(several).values()) for several in self._kept)

    def __call__(self, removed: Removed) -> Iterator[Any]:
        """What the masked network returns for each batch: tensors in lists and dicts."""
        masks = masks_of(self._graph, removed)
        if not masks:
            yield from self.dense
            return
        placed = self._placed(masks)
        for index in range(len(self._sizes)):
            with strict_float32(), decomposed():
                output = self._run(index, min(masks), placed)
            yield output

    def _placed(self, masks: Masks) -> dict[int, list[tuple[int, int, Tensor]]]:
        """The masks on the device, each with the position of the argument in place of the tensor's number."""
        operations = self._graph.program.operations
        return {
            index: [(operations[index].args.index(Ref(n)), dim, left.to(self._device)) for n, dim, left in several]
            for index, several in masks.items()
        }

    def _run(self, index: int, first: int, masks: Any) -> Any:
        kept, size = self._kept[index], self._sizes[index]
        at = kept[bisect.bisect_right(kept, first, key=lambda one: one.operation) - 1]
        held = dict(at.held)
        for number, step in enumerate(self._steps[size][at.operation :], at.operation):
            step(held, masks.get(number, ()))
        return replaced(self._programs[size].output, Ref, lambda ref: self._value(held, ref))

    def _value(self, held: dict[int, Tensor], ref: Ref) -> Tensor:
        return held[ref.number] if ref.number in held else self._leaves[ref.number]

    def _run_dense(self, batch: Images, places: frozenset[int], budget: int) -> tuple[list[_Kept], Any]:
        size = count(batch)
        program, steps = self._programs[size], self._steps[size]
        held = dict(zip(program.inputs, tensors(batch), strict=True))
        kept = [_Kept(0, dict(held))]
        memories: dict[int, int] = {}
        written: dict[int, int] = {}  # memory → the last operation in place on it
        for operation, step in zip(program.operations, steps, strict=True):
            if operation.index in places:
                here = _Kept(operation.index, dict(held))
                more = memories | self._memories([kept[0], here])
                if sum(more.values()) <= budget:
                    kept.append(here)
                    memories = more
            if operation.name.endswith("_"):
                written[_memory(self._value(held, next(refs(operation.args))))] = operation.index
            step(held)
        output = replaced(program.output, Ref, lambda ref: self._value(held, ref))
        # what a later operation has changed in place is no longer what it was
        sound = [
            one for one in kept if all(written.get(_memory(value), -1) < one.operation for value in one.held.values())
        ]
        return sound, output

    def _memories(self, kept: Sequence[_Kept]) -> dict[int, int]:
        """Memory → its bytes, of what is kept for one batch, first at its images; neither theirs nor the network's."""
        apart = self._own | {_memory(value) for value in kept[0].held.values()}
        several = (value.untyped_storage() for one in kept for value in one.held.values())
        return {one.data_ptr(): one.nbytes() for one in several if one.data_ptr() not in apart}

    def _places(self) -> list[int]:
        """Operations that are the first to read what a group makes."""
        first: dict[int, int] = {}
        for read in self._graph.reads:
            for channel in np.unique(read.labels).tolist():
                first[channel] = min(read.operation, first.get(channel, read.operation))
        groups = (*self._graph.groups, *self._graph.units)
        return sorted({first[c] for group in groups for c in group.channels.tolist() if c in first} - {0})


def _memory(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()


def _last_reads(program: Program) -> dict[int, int]:
    """Number of a tensor → the last operation that reads it; of an output, one behind all."""
    last = {number: operation.index for operation in program.operations for number in operation.reads()}
    return last | {ref.number: len(program.operations) for ref in refs(program.output)}


def _unread_behind(operation: Operation, last: dict[int, int], leaves: dict[int, Tensor]) -> list[int]:
    """What an operation reads or makes and no later one reads, leaves apart."""
    numbers = dict.fromkeys([*operation.reads(), *operation.makes()])
    return [number for number in numbers if number not in leaves and last.get(number, -1) <= operation.index]


def _within(wanted: list[int], program: Program, last: dict[int, int], images: int, budget: int) -> frozenset[int]:
    """As many of the wanted places as the budget allows, evenly spread; memory of several places counts once.

    An estimate: what is as large for any number of images, as a computed weight, is told as if it grew with them.
    """
    memory = memories(program.operations)
    live = {place: _live(program, last, memory, place) for place in wanted}

    def some(number: int) -> list[int]:
        return [wanted[(index + 1) * len(wanted) // number - 1] for index in range(number)]

    def size(number: int) -> int:
        kept = frozenset[int]().union(*(live[place] for place in some(number)))
        return sum(_bytes(program, tensor) for tensor in kept) * images // program.batch

    return frozenset(some(bisect.bisect_right(range(1, len(wanted) + 1), budget, key=size)))


def _live(program: Program, last: dict[int, int], memory: dict[int, int], place: int) -> frozenset[int]:
    """The memory that a run holds before an operation, by the first number that has it; leaves and images apart."""
    made = (number for operation in program.operations[:place] for number in operation.makes())
    held = {memory[number] for number in made if last.get(number, -1) >= place}
    return frozenset(number for number in held if number in memory)


def _bytes(program: Program, number: int) -> int:
    return int(np.prod(program.shapes[number])) * torch.empty(0, dtype=program.dtypes[number]).element_size()
