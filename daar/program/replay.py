"""Run a recorded program again on other images, operation by operation, to look at intermediate tensors."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from daar.device.precision import evaluating, strict_float32
from daar.errors import InputError
from daar.program.inputs import Images, count, each, fewest, first, split, usable
from daar.program.outputs import tensors
from daar.program.program import Operation, Program, Ref, refs, replaced
from daar.program.recording import RunError, decomposed, held_as, record, recorded


class Replay:
    """A network's operations for a batch of any size.

    It is recorded for two and for three images: a number among the arguments that is not the same has to be a multiple
    of the batch's size. Where more than that differs, it is recorded again for each size of a batch; where other
    operations run then, as of code that loops over images, it runs on as many images at once as it was recorded for.

    Args:
        model: the network; left as it is.
        images: as it is used; the values do not matter.
    """

    def __init__(self, model: nn.Module, images: Images) -> None:
        self._model = model
        with strict_float32():
            try:
                self.program = recorded(model, first(images, 2))
                self._larger = recorded(model, first(images, 3))
            except InputError:  # it wants another number of images, such as multiples of a number of views
                self.program = self._larger = recorded(model, fewest(model, images))

    def stream(self, images: Images, wanted: Container[int], batch_size: int) -> Iterator[tuple[int, Tensor]]:
        """Hand out wanted tensors, by their numbers, while the operations run, and free all others at once.

        Operations behind the last wanted one do not run. Strict float32 holds only while operations run: whoever uses
        what is handed out, or never asks for the rest, finds torch's settings as they were.

        Args:
            images: normalised, on the model's device.
            wanted: numbers of tensors.
            batch_size: images per pass.
        """
        operations = self.program.operations
        end = 1 + max((op.index for op in operations if any(n in wanted for n in op.makes())), default=-1)
        linear = self.is_linear(end)
        for batch in split(images, batch_size):
            program = self._bound(batch, end, linear)
            if program is not None:
                yield from _run(self._model, program, batch, wanted)
            else:
                yield from self._in_parts(batch, end, wanted)

    def is_linear(self, end: int | None = None) -> bool:
        """Whether nothing but multiples of the batch's size differs up to an operation, for two and three images."""
        return self._larger is not self.program and _alike(_to(self.program, end), _to(self._larger, end))

    def is_fixed(self, number: int, dim: int) -> bool:
        """Whether a dimension of a tensor is equally long for any number of images."""
        return self.program.shapes[number][dim] == self._larger.shapes[number][dim]

    def is_per_image(self, number: int) -> bool:
        """Whether a tensor has an entry for each image."""
        two, three = self.program.shapes[number][:1], self._larger.shapes[number][:1]
        return (two, three) == ((2,), (3,))

    def bound(self, size: int) -> Program:
        """The program for a number of images; where it `is_linear`."""
        return self.program if size == self.program.batch else self._extended(size, None)

    def _bound(self, batch: Images, end: int, linear: bool) -> Program | None:
        """The program up to an operation for a batch; None where others run for it."""
        size = count(batch)
        if size == self.program.batch:
            return _to(self.program, end)
        if not linear:
            return self._again(batch, end)
        return self._extended(size, end)

    def _extended(self, size: int, end: int | None) -> Program:
        step, bound = size - 2, []
        for one, other in zip(self.program.operations[:end], self._larger.operations[:end], strict=True):
            args, kwargs = _extended((one.args, one.kwargs), (other.args, other.kwargs), step)
            bound.append(replace(one, args=args, kwargs=kwargs))
        return replace(self.program, operations=bound, batch=size)

    def _again(self, batch: Images, end: int) -> Program | None:
        try:
            program = _to(record(self._model, each(batch, Tensor.clone)), end)
        except RunError:
            return None
        return program if made_by(program) == made_by(_to(self.program, end)) else None

    def _in_parts(self, batch: Images, end: int, wanted: Container[int]) -> Iterator[tuple[int, Tensor]]:
        """As many images at once as were recorded, the last part filled up by its own."""
        program, size = _to(self.program, end), self.program.batch
        of_images = program.of_images()
        for part in split(batch, size):
            for number, value in _run(self._model, program, first(part, size), wanted):
                each_has, rest = divmod(len(value) if value.dim() else 0, size)
                own = number in of_images and each_has and not rest
                yield number, value[: each_has * count(part)] if own else value


def read_by(model: nn.Module, program: Program, operation: Operation, number: int, images: Images) -> Tensor:
    """A tensor as an operation reads it, by running only what it is made by.

    Args:
        model: the network.
        program: what it ran.
        operation: that reads the tensor.
        number: of the tensor.
        images: as many as the program has, on the network's device.
    """
    if number in program.constants:
        return program.constants[number]
    if number in program.inputs:
        return list(tensors(images))[program.inputs.index(number)]
    behind = replace(program, operations=_behind(program.operations[: operation.index], number))
    *_, (_, value) = _run(model, behind, images, [number])
    return value


def _behind(operations: list[Operation], number: int) -> list[Operation]:
    """The operations that a tensor is made by, also those that change its memory through a view."""
    memory = memories(operations)
    wanted, found = {memory.get(number, number)}, []
    for operation in reversed(operations):
        written = [n for n, is_written in _touched(operation) if is_written]
        if not wanted.isdisjoint(memory.get(n, n) for n in (*operation.makes(), *written)):
            wanted.update(memory.get(n, n) for n in operation.reads())
            found.append(operation)
    return found[::-1]


def memories(operations: Iterable[Operation]) -> dict[int, int]:
    """Number of what an operation made → the first number that has its memory, its own where that is new."""
    memory: dict[int, int] = {}
    for operation in operations:
        shared = next((n for n, _ in _touched(operation)), None)
        memory.update((n, n if shared is None else memory.get(shared, shared)) for n in operation.makes())
    return memory


def _touched(operation: Operation) -> Iterator[tuple[int, bool]]:
    """Arguments whose memory the result shares or that are written to, and whether they are."""
    for position, argument in enumerate(operation.function._schema.arguments):
        if argument.alias_info is not None:
            for ref in refs(operation.argument(position, argument.name)):
                yield ref.number, argument.alias_info.is_write


def _to(program: Program, end: int | None) -> Program:
    return replace(program, operations=program.operations[:end])


def made_by(program: Program) -> list[Any]:
    """What a program does, but for its arguments."""
    return [(op.function, replaced(op.result, torch.ScriptObject, _kind)) for op in program.operations]


def _kind(handle: Any) -> str:
    """The class of an object of torch's own, such as a profiler's range; two such objects cannot be compared."""
    return str(handle._type())


def _alike(one: Program, other: Program) -> bool:
    """Whether two programs differ in nothing but multiples of their images, two and three."""
    if made_by(one) != made_by(other) or one.leaves != other.leaves:
        return False
    read = {number for program in (one, other) for op in program.operations for number in op.reads()}
    return all(_equal(one.constants.get(n), other.constants.get(n)) for n in read) and all(
        _fits((a.args, a.kwargs), (b.args, b.kwargs)) for a, b in zip(one.operations, other.operations, strict=True)
    )


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other or (one is not None and other is not None and torch.equal(one, other))


def _fits(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_fits, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_fits(part, other[key]) for key, part in one.items())
    if isinstance(one, torch.ScriptObject):
        return _kind(one) == _kind(other)
    return one == other or (type(one) is int and 3 * one == 2 * other)


def _extended(one: Any, other: Any, step: int) -> Any:
    """Arguments for `step` images more than two, given those for two and for three."""
    if isinstance(one, (list, tuple)):
        return type(one)(_extended(a, b, step) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return {key: _extended(part, other[key], step) for key, part in one.items()}
    return one + (other - one) * step if type(one) is int else one


def _run(model: nn.Module, program: Program, batch: Images, wanted: Container[int]) -> Iterator[tuple[int, Tensor]]:
    held = {number: held_as(model, name) for number, name in program.leaves.items()}
    held.update(program.constants)
    with decomposed():
        held.update(zip(program.inputs, tensors(usable(batch)), strict=True))
        for number in changed(program):
            held[number] = held[number].clone()  # what is changed in place must be as before for the next batch
    last = {number: operation.index for operation in program.operations for number in operation.reads()}
    left = iter(program.operations)
    while True:
        with strict_float32(), evaluating(model), decomposed():
            found = _until(left, held, last, wanted)
        if found is None:
            return
        yield from found


def _until(
    left: Iterator[Operation], held: dict[int, Tensor], last: dict[int, int], wanted: Container[int]
) -> list[tuple[int, Tensor]] | None:
    """Run operations up to the next that makes something wanted; None at the end."""
    for operation in left:
        args, kwargs = replaced((list(operation.args), operation.kwargs), Ref, lambda ref: held[ref.number])
        made = list(tensors(operation.function(*args, **kwargs)))
        held.update(zip(operation.makes(), made, strict=True))
        found = [(number, held[number]) for number in operation.makes() if number in wanted]
        for number in [*operation.reads(), *operation.makes()]:
            if last.get(number, -1) <= operation.index:
                held.pop(number, None)
        if found:
            return found
    return None


def changed(program: Program) -> set[int]:
    """Inputs, leaves and constants whose memory an operation changes, be it through a view."""
    memory = memories(program.operations)
    written = {memory.get(n, n) for op in program.operations for n, is_written in _touched(op) if is_written}
    return written & {*program.inputs, *program.leaves, *program.constants}
