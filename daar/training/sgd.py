"""SGD by the function behind `torch.optim.SGD`, whose own `step` and `zero_grad` load torch's compiler (1.2 s)."""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd


class Sgd:
    """SGD with momentum, fused where torch has such a kernel; to the bit what `torch.optim.SGD` does.

    Args:
        parameters: of the model, on one device.
        lr: of the next step; a tensor where a CUDA graph replays steps, which reads its present value.
        momentum: 0 for none.
        nesterov: whether the momentum is Nesterov's.
        weight_decay: of all parameters.
        fused: whether to run the fused kernel.

    Attributes:
        state: parameter → its `momentum_buffer`, once there is one; as in `torch.optim.SGD`.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, lr: float | Tensor, momentum: float, nesterov: bool,
        weight_decay: float, fused: bool,
    ) -> None:  # fmt: skip
        self._parameters, self._lr = list(parameters), lr
        self._momentum, self._nesterov, self._weight_decay, self._fused = momentum, nesterov, weight_decay, fused
        self.state: dict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the steps to come."""
        if isinstance(self._lr, Tensor):
            self._lr.fill_(lr)
        else:
            self._lr = lr

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change every parameter that has a gradient."""
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
