"""What a method must leave alone: checked where that costs little, before a suite runs and in `daar.prune`."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from daar.errors import InputError


@contextmanager
def unchanged(model: nn.Module, whose: str) -> Iterator[None]:
    """Compare the network before and after: its weights, buffers and modes.

    Args:
        model: that a method gets.
        whose: the method, for the message.

    Raises:
        InputError: names what was changed.
    """
    before = {name: value.detach().clone() for name, value in _held(model)}
    modes = {path: module.training for path, module in model.named_modules() if hasattr(module, "training")}
    yield
    after = dict(_held(model))
    names = [name for name in before | after if name not in before or name not in after]
    names += [name for name, value in before.items() if name in after and not _same(value, after[name])]
    names += [path or "the whole" for path, mode in modes.items() if model.get_submodule(path).training != mode]
    if names:
        raise InputError(
            f"{whose} changes {names[0]!r} of the network; score() must leave weights, buffers and modes as they are. "
            "Work on copy.deepcopy(model)."
        )


def _held(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _same(one: Tensor, other: Tensor) -> bool:
    """Bit by bit but for the kind of NaN."""
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())  # noqa: PLR0124  # NaN is not itself
