"""Random numbers that a network draws as it runs, such as of a dropout that never stops: kept, and given again."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from daar.program.dispatch import DispatchMode
from daar.program.outputs import tensors
from daar.program.program import Operation, Program, refs

# those whose numbers depend on nothing that they read but its shape
_FREE = (
    *("bernoulli", "bernoulli_", "normal", "normal_", "uniform_", "exponential_", "log_normal_", "cauchy_"),
    *("geometric_", "random_", "rand", "randn", "rand_like", "randn_like", "randint", "randint_like"),
)
# arguments by which an operation that may draw draws nothing
_OFF = {"dropout_p": 0.0, "training": False, "train": False}

# of a draw, its number: the tensor that it must return
Again = Callable[[int, Tensor], Tensor | None]


def draws(operation: Operation) -> bool:
    """Whether an operation draws random numbers."""
    if torch.Tag.nondeterministic_seeded not in operation.function.tags:
        return False
    return not any(
        argument.name in _OFF
        and operation.argument(position, argument.name, argument.default_value) == _OFF[argument.name]
        for position, argument in enumerate(operation.function._schema.arguments)
    )


def _is_free(function: Any) -> bool:
    name, overload = function.overloadpacket.__name__, function._overloadname
    return name in _FREE and "Tensor" not in overload and (name != "bernoulli" or overload == "p")


@contextmanager
def seeded() -> Iterator[None]:
    """With the same random numbers each time, torch's on the CPU, Python's, numpy's; then they go on as before."""
    before, legacy = random.getstate(), np.random.get_state()  # the network's code may use it
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            yield
    finally:
        random.setstate(before)
        np.random.set_state(legacy)


class Draws:
    """The random numbers of one run of a program, for another run of it.

    Args:
        program: what runs.
    """

    def __init__(self, program: Program) -> None:
        self.operations = [operation for operation in program.operations if draws(operation)]
        self._kept: list[Tensor] = []

    @contextmanager
    def kept(self, device: torch.device) -> Iterator[None]:
        """Keep what is drawn within; the same numbers each time, whatever was drawn before."""
        self._kept = []

        def keep(_: int, drawn: Tensor) -> None:
            self._kept.append(drawn.detach().clone())

        with self._drawing(device, keep):
            yield

    @contextmanager
    def again(self, device: torch.device, change: Callable[[Tensor, int], Tensor]) -> Iterator[None]:
        """Draw within what was kept, each tensor changed by `change(kept, its number in the program)`."""
        numbers = [next(refs(operation.result)).number for operation in self.operations]

        def repeat(index: int, drawn: Tensor) -> Tensor | None:
            if index >= min(len(self._kept), len(numbers)):
                return None
            wanted = change(self._kept[index], numbers[index])
            return wanted if wanted.shape == drawn.shape else None

        with self._drawing(device, repeat):
            yield

    @contextmanager
    def _drawing(self, device: torch.device, again: Again) -> Iterator[None]:
        if not self.operations:
            yield
            return
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _Drawing(again):
            yield


class _Drawing(DispatchMode):
    def __init__(self, again: Again) -> None:
        super().__init__()
        self._again, self._index = again, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        noted = Operation(0, func, args, kwargs, None, "", "", "")
        if not draws(noted):
            return func(*args, **kwargs)
        # numbers that depend on more than a shape are drawn again, from a seed of this operation alone
        torch.manual_seed(self._index)
        result = func(*args, **kwargs)
        drawn = next(tensors(result))
        wanted = self._again(self._index, drawn)
        if wanted is not None and _is_free(func):
            drawn.copy_(wanted)
        self._index += 1
        return result
