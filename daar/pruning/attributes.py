"""Integers that a module holds: as attributes, in lists, tuples and dicts, and in objects such as configurations.

Each has a name, the way to it from the module: `width`, `splits.1`, `config.heads.0`.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from torch import nn

# how far down they are looked for
_DEPTH = 4
# longer ones are data
_LONGEST = 1000
_TORCHS = frozenset(vars(nn.Module()))


def integers(module: nn.Module) -> Iterator[tuple[str, int]]:
    """Name and value of each, outer ones first."""
    waiting: list[tuple[str, Any]] = [(name, value) for name, value in vars(module).items() if name not in _TORCHS]
    for _ in range(_DEPTH):
        yield from ((name, value) for name, value in waiting if type(value) is int)
        waiting = [(f"{name}.{key}", part) for name, value in waiting for key, part in _parts(value)]


def value_of(module: nn.Module, name: str) -> Any:
    """What a module holds by a name; None where it holds nothing."""
    first, *others = name.split(".")
    value = vars(module).get(first)
    for part in others:
        value = _part(value, part)
    return value


def owner_of(module: nn.Module, name: str) -> tuple[int, str]:
    """What a number is one and the same with: the id of the object that holds it and may be shared, its name there."""
    first, *others = name.split(".")
    owner: Any = module
    value, below = vars(module).get(first), name
    for index, part in enumerate(others):
        if not isinstance(value, tuple):
            owner, below = value, ".".join(others[index:])
        value = _part(value, part)
    return id(owner), below


def change(module: nn.Module, name: str, old: int, new: int) -> None:
    """Give a number its new value where it has the old one; tuples that hold it are replaced."""
    if value_of(module, name) == old != new:
        first, *others = name.split(".")
        held = vars(module)[first]
        changed = _with(held, others, new)
        if changed is not held:
            setattr(module, first, changed)


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """What is held by a list, tuple or dict, or by an object that is copied as all are."""
    if isinstance(value, (dict, list, tuple)):
        if len(value) <= _LONGEST:
            items = value.items() if isinstance(value, dict) else enumerate(value)
            yield from ((key, part) for key, part in items if type(key) is int or (type(key) is str and "." not in key))
    elif isinstance(value, SimpleNamespace) or _is_plain(value):
        yield from vars(value).items()


def _is_plain(value: Any) -> bool:
    """Whether `copy.deepcopy` makes another object of it: some, such as loggers, are one wherever they are held."""
    kind = type(value)
    own = any(name in vars(base) for base in kind.__mro__[:-1] for name in ("__reduce__", "__reduce_ex__"))
    return (
        hasattr(value, "__dict__")
        and not isinstance(value, (type, nn.Module))
        and not (own or hasattr(kind, "__deepcopy__"))
    )


def _part(value: Any, name: str) -> Any:
    return next((part for key, part in _parts(value) if str(key) == name), None)


def _with(value: Any, names: list[str], new: int) -> Any:
    """The value with a number that it holds changed: itself, or another tuple."""
    if not names:
        return new
    first, *others = names
    part = _with(_part(value, first), others, new)
    if isinstance(value, tuple):
        entries = [part if str(index) == first else entry for index, entry in enumerate(value)]
        return type(value)(*entries) if hasattr(value, "_fields") else type(value)(entries)
    if isinstance(value, dict):
        value[next(key for key, _ in _parts(value) if str(key) == first)] = part
    elif isinstance(value, list):
        value[int(first)] = part
    else:
        object.__setattr__(value, first, part)  # of a frozen dataclass too
    return value
