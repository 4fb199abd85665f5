"""The masked network from the first masked layer on: what comes before it is the dense one's, and is kept."""

import bisect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from daar.device.precision import evaluating, strict_float32
from daar.program.draws import Draws
from daar.program.inputs import Images, count
from daar.program.outputs import tensors
from daar.program.program import Program, Ref, refs, replaced
from daar.program.recording import decomposed, held_as
from daar.program.replay import Replay, changed, made_by
from daar.pruning.groups import ChannelGraph
from daar.pruning.masked import Masks, masks_of, zeroed
from daar.pruning.slim import Removed

# bytes of kept tensors, of all images
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


class MaskedSuffix:
    """Runs a masked network from the last place before its first masked layer at which the dense run was kept.

    The operations are those of `Masked`, on the same numbers, so what it returns is the same to the bit.

    Args:
        model: the dense network; left as it is.
        graph: its channel graph.
        batches: the images, as they are run.
        replay: of the model, which `can_start_within` holds for.
        budget: bytes that may be kept, of all images; places are left out evenly to stay within.
    """

    def __init__(
        self, model: nn.Module, graph: ChannelGraph, batches: list[Images], replay: Replay, budget: int = BUDGET
    ) -> None:
        self._model, self._graph = model, graph
        self._programs = {size: replay.bound(size) for size in {count(batch) for batch in batches}}
        self._sizes = [count(batch) for batch in batches]
        self._leaves = {number: held_as(model, name) for number, name in graph.program.leaves.items()}
        self._leaves.update(graph.program.constants)
        self._last = _last_reads(graph.program)
        self._free = [
            [number for number in (*op.reads(), *op.makes()) if self._last.get(number, -1) <= op.index]
            for op in graph.program.operations
        ]
        self._kept: list[list[_Kept]] = []
        self.dense: list[Any] = []
        places = self._places(sum(self._sizes), budget)
        for batch in batches:
            kept, output = self._run_dense(batch, places)
            self._kept.append(kept)
            self.dense.append(output)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the tensors that are kept, without the images."""
        kept = {_memory(value): value for several in self._kept for one in several for value in one.held.values()}
        images = {_memory(value) for several in self._kept for value in several[0].held.values()}
        return sum(value.untyped_storage().nbytes() for memory, value in kept.items() if memory not in images)

    def __call__(self, index: int, removed: Removed) -> Any:
        """What the masked network returns for a batch: tensors in lists and dicts."""
        masks = masks_of(self._graph, removed)
        if not masks:
            return self.dense[index]
        kept = self._kept[index]
        at = bisect.bisect_right(kept, min(masks), key=lambda one: one.operation) - 1
        program = self._programs[self._sizes[index]]
        return self._run(program, dict(kept[at].held), kept[at].operation, masks)

    def _run(self, program: Program, held: dict[int, Tensor], first: int, masks: Masks) -> Any:
        with strict_float32(), evaluating(self._model), decomposed():
            for operation in program.operations[first:]:
                self._step(program, operation.index, held, masks)
            return replaced(program.output, Ref, lambda ref: held[ref.number])

    def _step(self, program: Program, index: int, held: dict[int, Tensor], masks: Masks) -> None:
        operation = program.operations[index]
        args, kwargs = replaced((list(operation.args), operation.kwargs), Ref, lambda ref: self._value(held, ref))
        for tensor, dim, left in masks.get(index, ()):
            at = operation.args.index(Ref(tensor))
            args[at] = zeroed(args[at], dim, left)
        held.update(zip(operation.makes(), tensors(operation.function(*args, **kwargs)), strict=True))
        for number in self._free[index]:
            held.pop(number, None)

    def _value(self, held: dict[int, Tensor], ref: Ref) -> Tensor:
        return held[ref.number] if ref.number in held else self._leaves[ref.number]

    def _run_dense(self, batch: Images, places: frozenset[int]) -> tuple[list[_Kept], Any]:
        program = self._programs[count(batch)]
        held = dict(zip(program.inputs, tensors(batch), strict=True))
        kept = [_Kept(0, dict(held))]
        written: dict[int, int] = {}  # memory → the last operation in place on it
        with strict_float32(), evaluating(self._model), decomposed():
            for operation in program.operations:
                if operation.index in places:
                    kept.append(_Kept(operation.index, dict(held)))
                if operation.name.endswith("_"):
                    written[_memory(self._value(held, next(refs(operation.args))))] = operation.index
                self._step(program, operation.index, held, {})
            output = replaced(program.output, Ref, lambda ref: held[ref.number])
        # what a later operation has changed in place is no longer what it was
        sound = [
            one for one in kept if all(written.get(_memory(value), -1) < one.operation for value in one.held.values())
        ]
        return sound, output

    def _places(self, images: int, budget: int) -> frozenset[int]:
        """Operations that read what a group makes, as evenly spread as the budget allows."""
        program = self._graph.program
        first: dict[int, int] = {}
        for read in self._graph.reads:
            for channel in np.unique(read.labels).tolist():
                first[channel] = min(read.operation, first.get(channel, read.operation))
        groups = (*self._graph.groups, *self._graph.units)
        wanted = sorted({first[c] for group in groups for c in group.channels.tolist() if c in first} - {0})
        bytes_at = [_bytes(program, self._last, place) * images // program.batch for place in wanted]
        step = 1
        while step <= len(wanted) and sum(bytes_at[step - 1 :: step]) > budget:
            step += 1
        return frozenset(wanted[step - 1 :: step])


def _memory(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()


def _last_reads(program: Program) -> dict[int, int]:
    """Number of a tensor → the last operation that reads it; of an output, one behind all."""
    last = {number: operation.index for operation in program.operations for number in operation.reads()}
    return last | {ref.number: len(program.operations) for ref in refs(program.output)}


def _bytes(program: Program, last: dict[int, int], place: int) -> int:
    """What a run holds before an operation, without leaves."""
    made = _numbers(program.inputs, (op.makes() for op in program.operations[:place]))
    live = [number for number in made if last.get(number, -1) >= place]
    return sum(int(np.prod(program.shapes[n])) * torch.empty(0, dtype=program.dtypes[n]).element_size() for n in live)


def _numbers(inputs: list[int], made: Iterable[list[int]]) -> list[int]:
    return [*inputs, *(number for several in made for number in several)]
