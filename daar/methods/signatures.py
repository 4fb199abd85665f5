"""A method's options, read from its source: names and allowed values are known before anything heavy is imported."""

import ast
import contextlib
from dataclasses import dataclass
from typing import Any

from daar.errors import InputError, unknown

# keyword arguments that the suite fills in itself
GIVEN = frozenset({"seed", "macs", "loss", "shapes"})

_TYPES: dict[str, tuple[type, ...]] = {"float": (int, float), "int": (int,), "str": (str,), "bool": (bool,)}


@dataclass(frozen=True)
class Allowed:
    """The values that an option's annotation allows.

    Attributes:
        literals: those of `Literal[...]`.
        types: names of the types that it also allows, out of float, int, str and bool.
        anything: it has no annotation, or one of another kind.
    """

    literals: tuple[Any, ...] = ()
    types: tuple[str, ...] = ()
    anything: bool = False

    def __contains__(self, value: object) -> bool:
        if self.anything or any(value == one and type(value) is type(one) for one in self.literals):
            return True
        return any(
            isinstance(value, _TYPES[name]) and (name == "bool" or not isinstance(value, bool)) for name in self.types
        )

    def __str__(self) -> str:
        return ", ".join([*(repr(one) for one in self.literals), *(f"a value of type {name}" for name in self.types)])


def read(function: ast.FunctionDef) -> dict[str, Allowed]:
    """The keyword-only arguments of a function that are options, in the order of writing."""
    return {a.arg: _allowed(a.annotation) for a in function.args.kwonlyargs if a.arg not in GIVEN}


def given(function: ast.FunctionDef) -> frozenset[str]:
    """Of what the suite fills in itself: what a function takes and reads; by `**rest` macs and loss too."""
    taken = {argument.arg for argument in function.args.kwonlyargs} & GIVEN
    read = {node.id for part in function.body for node in ast.walk(part) if isinstance(node, ast.Name)}
    rest = {"macs", "loss"} if function.args.kwarg is not None and function.args.kwarg.arg in read else set()
    return frozenset((taken & read) | (rest - taken))


def defaults(function: ast.FunctionDef) -> dict[str, Any]:
    """Option → its default, where it has one that is a literal."""
    values = {}
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if argument.arg not in GIVEN and default is not None:
            with contextlib.suppress(ValueError):
                values[argument.arg] = ast.literal_eval(default)
    return values


def check(options: dict[str, Any], allowed: dict[str, Allowed], method: str) -> None:
    """Compare a variant's options with those that a method has.

    Raises:
        InputError: there is no such option, or it does not take that value; lists what there is.
    """
    for name, value in options.items():
        if name not in allowed:
            raise unknown(f"option of method {method!r}", name, sorted(allowed))
        if value not in allowed[name]:
            raise InputError(f"option {name!r} of method {method!r} is {value!r}; it takes {allowed[name]}.")


def _allowed(annotation: ast.expr | None) -> Allowed:
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        left, right = _allowed(annotation.left), _allowed(annotation.right)
        anything = left.anything or right.anything
        return Allowed(left.literals + right.literals, left.types + right.types, anything)
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        try:
            values = ast.literal_eval(annotation.slice)
        except (ValueError, TypeError, SyntaxError):  # names, which only Python itself could look up
            return Allowed(anything=True)
        return Allowed(values if isinstance(values, tuple) else (values,))
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return Allowed((None,))
    if isinstance(annotation, ast.Name) and annotation.id in _TYPES:
        return Allowed(types=(annotation.id,))
    return Allowed(anything=True)
