"""A loss of one's own, for a policy that measures what pruning does: one finite number each time, and read at all."""

import inspect
import math
import numbers
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from daar.errors import InputError, in_one_line
from daar.pruning import policies
from daar.pruning.calibration_loss import OwnLoss


class CheckedLoss:
    """Calls a loss and takes its number.

    Attributes:
        called: whether it was.
    """

    def __init__(self, loss: OwnLoss) -> None:
        self._loss, self.called = loss, False

    def __call__(self, output: Any, dense: Any) -> float:
        """The loss of a masked network's output.

        Raises:
            InputError: what the loss returns is not one finite number. Its exceptions are its own and get through.
        """
        self.called = True
        returned = self._loss(output, dense)
        value = _number(returned)
        if value is None or not math.isfinite(value):
            raise InputError(f"loss returned {_shown(returned, value)}; it must return one finite number for a batch.")
        return value


def checked(loss: Any, policy: str, *, ratios: bool, folders: Sequence[Path]) -> CheckedLoss | None:
    """The loss with its returned values checked; None where none is given.

    Args:
        loss: loss(output, dense output), or None.
        policy: that turns scores into widths.
        ratios: whether own ratios take its place.
        folders: further folders of methods.

    Raises:
        InputError: it does not take two outputs, or the policy never measures.
    """
    if loss is None:
        return None
    if not callable(loss):
        raise InputError(
            f"loss is {in_one_line(repr(loss), 100)}; it must be a function loss(output, dense output), or None."
        )
    try:
        inspect.signature(loss).bind(None, None)
    except TypeError as error:
        raise InputError(
            f"loss does not take these arguments: {error}. It must be loss(output, dense output)."
        ) from error
    except ValueError:  # a builtin has no signature
        pass
    measuring = policies.measuring(folders)
    if ratios or (policy not in measuring and policy in policies.names(folders)):
        raise InputError(
            f"loss is given, but {'own ratios measure' if ratios else f'policy {policy!r} measures'} nothing: loss is "
            f"read by policy {', '.join(measuring)} alone. Give that policy, or leave loss out."
        )
    return CheckedLoss(loss)


def require_called(loss: CheckedLoss | None, policy: str) -> None:
    """InputError for a loss that the policy did not read."""
    if loss is not None and not loss.called:
        raise InputError(
            f"loss is given, but policy {policy!r} measured nothing with these options. Leave loss out, or the option "
            "that turns measuring off, such as adjust=False."
        )


def _number(returned: Any) -> float | None:
    if isinstance(returned, Tensor):
        return float(returned) if returned.numel() == 1 and not returned.is_complex() else None
    return float(returned) if isinstance(returned, numbers.Real) and not isinstance(returned, bool) else None


def _shown(returned: Any, value: float | None) -> str:
    if value is not None:
        return str(value)
    if isinstance(returned, Tensor):
        return f"a tensor {tuple(returned.shape)} of {returned.dtype}"
    return in_one_line(repr(returned), 80)
