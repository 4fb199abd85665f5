"""What a network takes and returns, of any structure: its tensors in order."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from daar.errors import InputError


def nested(value: Any) -> Any:
    """Lists and dicts of tensors; dataclasses, mappings and objects that hold tensors by their fields.

    Raises:
        InputError: there is a generator or another iterator, which can be read only once.
    """
    if isinstance(value, (Tensor, str, bytes)) or value is None:
        return value
    if hasattr(value, "items"):
        return {key: nested(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [nested(part) for part in value]
    if isinstance(value, Iterator):
        raise InputError(
            f"the model takes or returns a {type(value).__name__}, which can be read only once; it must be a tensor, "
            "or a list, tuple or dict of them. Put list() around it."
        )
    if hasattr(value, "__dataclass_fields__"):
        return {name: nested(getattr(value, name)) for name in value.__dataclass_fields__}
    if any(isinstance(part, Tensor) for part in getattr(value, "__dict__", {}).values()):
        return {name: nested(part) for name, part in vars(value).items()}
    return value


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in a value, in order; None and numbers are none."""
    value = nested(value)
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors(part)
