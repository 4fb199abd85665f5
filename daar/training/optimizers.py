"""The optimizers of a recipe: SGD by the function behind torch's, and AdamW."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from daar.training.recipe import Recipe


class Optimizer(Protocol):
    """What changes the parameters after a step's gradients are there.

    Attributes:
        state: parameter → what is kept for it between steps, by name; nothing before the first step.
        names: the names in `state`.
    """

    state: dict[Tensor, dict[str, Tensor]]
    names: tuple[str, ...]

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the steps to come."""

    def zero_grad(self) -> None:
        """Drop all gradients."""

    def step(self) -> None:
        """Change every parameter that has a gradient."""


def make(recipe: Recipe, parameters: Iterable[nn.Parameter], device: torch.device) -> Optimizer:
    """The recipe's optimizer of parameters on a device; fused where torch has such a kernel."""
    # a tensor: a replayed graph reads its present value
    lr = torch.tensor(recipe.lr, device=device) if device.type == "cuda" else recipe.lr
    fused = device.type in ("cpu", "cuda")
    if recipe.optimizer == "adamw":
        beta1, beta2 = recipe.betas
        return AdamW(parameters, lr=lr, betas=(beta1, beta2), weight_decay=recipe.weight_decay, fused=fused)
    return Sgd(
        parameters, lr=lr, momentum=recipe.momentum, nesterov=recipe.nesterov, weight_decay=recipe.weight_decay,
        fused=fused,
    )  # fmt: skip


class Sgd:
    """SGD with momentum; to the bit what `torch.optim.SGD` does, whose `step` loads torch's compiler (1.2 s).

    Args:
        parameters: of the model, on one device.
        lr: of the next step; a tensor where a CUDA graph replays steps, which reads its present value.
        momentum: 0 for none.
        nesterov: whether the momentum is Nesterov's.
        weight_decay: of all parameters.
        fused: whether to run the fused kernel.
    """

    names: tuple[str, ...] = ("momentum_buffer",)

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, lr: float | Tensor, momentum: float, nesterov: bool,
        weight_decay: float, fused: bool,
    ) -> None:  # fmt: skip
        self._parameters, self._lr = list(parameters), lr
        self._momentum, self._nesterov, self._weight_decay, self._fused = momentum, nesterov, weight_decay, fused
        self.state: dict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    def set_lr(self, lr: float) -> None:
        """See `Optimizer`."""
        if isinstance(self._lr, Tensor):
            self._lr.fill_(lr)
        else:
            self._lr = lr

    def zero_grad(self) -> None:
        """See `Optimizer`."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """See `Optimizer`."""
        parameters = [parameter for parameter in self._parameters if parameter.grad is not None]
        momenta = [self.state[one].get("momentum_buffer") for one in parameters] if self._momentum else []
        sgd(
            [*parameters], [one.grad for one in parameters if one.grad is not None], momenta,
            fused=self._fused, weight_decay=self._weight_decay, momentum=self._momentum, lr=self._lr, dampening=0.0,
            nesterov=self._nesterov, maximize=False,
        )  # fmt: skip
        for parameter, momentum in zip(parameters, momenta, strict=False):
            assert momentum is not None  # the function puts new ones into the list
            self.state[parameter]["momentum_buffer"] = momentum


class AdamW:
    """`torch.optim.AdamW` (Loshchilov & Hutter, 2019) behind the interface of `Optimizer`; arguments as there."""

    names: tuple[str, ...] = ("step", "exp_avg", "exp_avg_sq")

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, lr: float | Tensor, betas: tuple[float, float],
        weight_decay: float, fused: bool,
    ) -> None:  # fmt: skip
        in_graphs = isinstance(lr, Tensor)  # without, torch refuses to have its steps captured
        self._torchs = torch.optim.AdamW(
            parameters, lr=lr, betas=betas, weight_decay=weight_decay, fused=fused, capturable=in_graphs
        )
        self.state: dict[Tensor, dict[str, Tensor]] = self._torchs.state

    def set_lr(self, lr: float) -> None:
        """See `Optimizer`."""
        (group,) = self._torchs.param_groups
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr

    def zero_grad(self) -> None:
        """See `Optimizer`."""
        self._torchs.zero_grad()

    def step(self) -> None:
        """See `Optimizer`."""
        self._torchs.step()
