"""LSTMs in steps, as matrix products and gates: on CPUs torch runs them as one operation, whose units none can see."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from daar.program.module_hooks import around_modules


class _Steps:
    """Has oneDNN left out while an LSTM runs; GRUs and plain RNNs run in steps anyway.

    Attributes:
        paused: whether it is not, as where time is measured.
    """

    def __init__(self) -> None:
        self.paused = False
        self._before: list[Any] = []

    def enter(self, module: nn.Module, _: Any) -> None:
        """Before a module runs."""
        if isinstance(module, nn.LSTM):
            self._before.append(torch.backends.mkldnn.enabled)
            if not self.paused:
                torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # torch's stubs say a property

    def leave(self, module: nn.Module, *_: Any) -> None:
        """When it has run, or raised."""
        if isinstance(module, nn.LSTM) and self._before:
            torch.backends.mkldnn.enabled = self._before.pop()


_ACTIVE: list[_Steps] = []


@contextmanager
def by_steps(model: nn.Module) -> Iterator[None]:
    """Run the LSTMs of a network in steps within."""
    if not any(isinstance(module, nn.LSTM) for module in model.modules()):
        yield
        return
    steps = _Steps()
    _ACTIVE.append(steps)
    try:
        with around_modules(steps.enter, steps.leave):
            yield
    finally:
        _ACTIVE.remove(steps)


@contextmanager
def at_once() -> Iterator[None]:
    """Run LSTMs as torch does by itself within, as where time is measured."""
    active = list(_ACTIVE)
    for steps in active:
        steps.paused = True
    try:
        yield
    finally:
        for steps in active:
            steps.paused = False
