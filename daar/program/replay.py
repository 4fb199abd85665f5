"""Run a recorded program again on other images, operation by operation, to look at intermediate tensors."""

from collections.abc import Container, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from daar.device.precision import evaluating, strict_float32
from daar.errors import InputError
from daar.program.inputs import Images, count, each, first, split, usable
from daar.program.outputs import tensors
from daar.program.program import Operation, Program, Ref, refs, replaced
from daar.program.recording import decomposed, held_as, recorded


class Replay:
    """A network's operations for a batch of any size.

    It is recorded for two and for three images: a number among the arguments that is not the same has to be a multiple
    of the batch's size. Where more than that differs, it is recorded again for each size of a batch.

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
                self.program = self._larger = recorded(model, images)
        self._linear = self._larger is not self.program and _alike(self.program, self._larger)

    def stream(self, images: Images, wanted: Container[int], batch_size: int) -> Iterator[tuple[int, Tensor]]:
        """Hand out wanted tensors, by their numbers, while the operations run, and free all others at once.

        Strict float32 holds only while operations run: whoever uses what is handed out, or never asks for the rest,
        finds torch's settings as they were.

        Args:
            images: normalised, on the model's device.
            wanted: numbers of tensors.
            batch_size: images per pass.
        """
        for batch in split(images, batch_size):
            program = self._bound(batch)
            yield from _run(self._model, program, batch, wanted)

    def _bound(self, batch: Images) -> Program:
        size = count(batch)
        if size == self.program.batch:
            return self.program
        if not self._linear:
            return self._again(batch)
        step = size - 2
        bound = Program(
            inputs=self.program.inputs,
            output=self.program.output,
            leaves=self.program.leaves,
            constants=self.program.constants,
            shapes=self.program.shapes,
            dtypes=self.program.dtypes,
            batch=size,
        )
        for one, other in zip(self.program.operations, self._larger.operations, strict=True):
            args, kwargs = _extended((one.args, one.kwargs), (other.args, other.kwargs), step)
            bound.operations.append(
                Operation(one.index, one.function, args, kwargs, one.result, one.module, one.line, one.code)
            )
        return bound

    def _again(self, batch: Images) -> Program:
        program = recorded(self._model, each(batch, Tensor.clone))
        if _made(program) != _made(self.program):
            raise InputError(
                "the network should run the same operations for any number of images, but for "
                f"{count(batch)} it runs others than for 2, so feature maps cannot be taken. Choose a method that "
                "reads weights alone."
            )
        return program


def _made(program: Program) -> list[Any]:
    return [(operation.function, operation.result) for operation in program.operations]


def _alike(one: Program, other: Program) -> bool:
    """Whether two programs differ in nothing but multiples of their images, two and three."""
    return (
        len(one.operations) == len(other.operations)
        and one.leaves == other.leaves
        and one.constants.keys() == other.constants.keys()
        and all(torch.equal(value, other.constants[number]) for number, value in one.constants.items())
        and all(
            a.function is b.function and a.result == b.result and _fits((a.args, a.kwargs), (b.args, b.kwargs))
            for a, b in zip(one.operations, other.operations, strict=True)
        )
    )


def _fits(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_fits, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_fits(part, other[key]) for key, part in one.items())
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
        for number in _changed(program):
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


def _changed(program: Program) -> set[int]:
    """Inputs, leaves and constants that an operation in place is run on."""
    held = {*program.inputs, *program.leaves, *program.constants}
    firsts = (next(refs(op.args), None) for op in program.operations if op.name.endswith("_"))
    return {ref.number for ref in firsts if ref is not None and ref.number in held}
