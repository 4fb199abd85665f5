"""What a network ran: its ATen operations in order, with every tensor by a number."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ref:
    """A tensor of a program, by its number, where an argument or a result was one."""

    number: int


@dataclass(frozen=True, eq=False)
class Operation:
    """One ATen operation as it ran.

    Attributes:
        index: its place in the order of execution.
        function: the overload.
        args: positional arguments, each tensor as a `Ref`.
        kwargs: keyword arguments alike.
        result: what it returned, each tensor as a `Ref`.
        module: path of the innermost module that was running; empty in the network's own forward.
        line: file and line of the network's code that led here; empty where torch's own code was called by none.
        code: the same by the name of the Python module, which is equal wherever that is installed.
    """

    index: int
    function: torch._ops.OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    module: str
    line: str
    code: str

    @property
    def name(self) -> str:
        """Such as `convolution`; without the underscore of an operation in place."""
        return str(self.function.overloadpacket.__name__)

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or by name; its default where it was not given."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    def reads(self) -> list[int]:
        """Numbers of the tensors among its arguments, in their order."""
        return [ref.number for ref in refs((self.args, self.kwargs))]

    def makes(self) -> list[int]:
        """Numbers of the tensors that it returned."""
        return [ref.number for ref in refs(self.result)]

    @property
    def source(self) -> str:
        """What all operations of one line of the network's code share: its name and that line, or the module.

        The line is named by its Python module, not its file: a plan that holds it is read on other machines.
        """
        return f"{self.name} {self.code or self.module}"

    @property
    def here(self) -> str:
        """The source, of this module alone: one line may run several modules, as of a `Sequential`."""
        return f"{self.source} in {self.module}"

    def place(self) -> str:
        """Where it stands in the network's code: operation, module, file and line."""
        return f"{self.name}{f' in {self.module}' if self.module else ''}{f' ({self.line})' if self.line else ''}"


@dataclass(frozen=True)
class Span:
    """One call of a module: the operations from `first` up to, not including, `last`."""

    module: str
    first: int
    last: int
    read: tuple[int, ...]
    made: tuple[int, ...]


@dataclass(eq=False)
class Program:
    """All operations of one run, and what is known of each tensor.

    Attributes:
        operations: in order.
        inputs: numbers of the network's inputs, in the order in which they were given.
        output: what the network returned, each tensor as a `Ref`.
        leaves: number → name of the parameter, buffer or tensor attribute.
        constants: number → a tensor that neither an operation made nor a module holds.
        shapes: number → shape.
        dtypes: number → type.
        spans: the calls of modules in the order in which they began.
        batch: images of the run.
    """

    operations: list[Operation] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    output: Any = None
    leaves: dict[int, str] = field(default_factory=dict)
    constants: dict[int, Tensor] = field(default_factory=dict)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    dtypes: list[torch.dtype] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    batch: int = 1


def refs(value: Any) -> Iterator[Ref]:
    """Every `Ref` in a nest of lists, tuples and mappings, in order."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from refs(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from refs(part)


def replaced(value: Any, kind: type, by: Any) -> Any:
    """A nest of lists, tuples and mappings with each value of a type replaced by what `by` gives for it."""
    if isinstance(value, kind):
        return by(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(replaced(part, kind, by) for part in value))
    if isinstance(value, (list, tuple)):
        return type(value)(replaced(part, kind, by) for part in value)
    if isinstance(value, dict):
        return {key: replaced(part, kind, by) for key, part in value.items()}
    return value
