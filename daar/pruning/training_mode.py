"""What a network runs in training mode only: heads, and branches that its code takes while it trains."""

from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

import torch
from torch import nn

from daar.models.copying import copied
from daar.program.inputs import Images, arguments, count
from daar.program.outputs import tensors
from daar.program.program import Program
from daar.program.recording import RunError, record


def in_training(model: nn.Module, images: Images) -> Program | None:
    """What a network runs in training mode, by images alone or by images and classes.

    None where it runs by neither, as detectors, which want boxes.
    """
    made = _recorded(model, images)
    return made if isinstance(made, Program) else None


def failure(slimmed: nn.Module, images: Images) -> RunError | None:
    """What a slim network raises in training mode."""
    made = _recorded(slimmed, images)
    return made if isinstance(made, RunError) else None


def _recorded(model: nn.Module, images: Images) -> Program | RunError:
    errors = []
    for given in _calls(images):
        try:
            return record(copied(model), given, training=True)
        except RunError as error:
            errors.append(error)
    return max(errors, key=lambda error: len(error.program.operations))  # the one that came further


def _calls(images: Images) -> Iterator[Images]:
    """The images, then with a class for each as a further argument: networks that make their own loss want one."""
    yield images
    classes = torch.zeros(count(images), dtype=torch.int64, device=next(tensors(images)).device)
    if not isinstance(images, Mapping):
        yield (*arguments(images)[0], classes)


def unread(model: nn.Module, *programs: Program | None) -> list[str]:
    """Names of the parameters that no operation of these programs reads."""
    read = {
        program.leaves[number]
        for program in programs
        if program is not None
        for operation in program.operations
        for number in operation.reads()
        if number in program.leaves
    }
    return [name for name, _ in model.named_parameters() if name not in read]


def asks_for_mode(model: nn.Module) -> bool:
    """Whether code of the network's own reads `training`: in training mode it may run something else."""
    kinds = {type(module) for module in model.modules()}
    patched = (vars(module).get("forward") for module in model.modules())
    return any(map(_reads_mode, kinds)) or any(map(_names_mode, patched))


def _reads_mode(kind: type[nn.Module]) -> bool:
    own = (cls for cls in kind.__mro__ if issubclass(cls, nn.Module) and not cls.__module__.startswith("torch."))
    return any(_names_mode(value) for cls in own for value in vars(cls).values())


def _names_mode(value: Any) -> bool:
    code = getattr(value, "__code__", None)
    return code is not None and any("training" in part.co_names for part in _codes(code))


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and that of functions and comprehensions within."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
