"""The weights of a training in bfloat16, copied at once before each step; autocast copies them one by one."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from daar.program.dispatch import DispatchMode


class Bf16Weights:
    """Runs a model under autocast with those parameters in bfloat16 of which autocast would use such copies alone.

    Losses and gradients are to the bit those of autocast alone: the first batch is run both ways, and a model whose
    outputs differ (it asks for the type of a weight) has no copies. A step of many layers then has two launches of
    kernels for its copies in place of two for each parameter.

    Args:
        model: in training mode; its statistics stay as they are.
        images: of one batch, normalised.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self._model = model
        self._parameters: dict[str, Tensor] = {}
        self._copies: dict[str, Tensor] = {}
        statistics = [buffer.clone() for buffer in model.buffers()]
        used = _Copied(model)
        with used:
            alone = self._run(images)
        self._parameters = {name: p for name, p in model.named_parameters() if p in used.copied and p.requires_grad}
        self._copies = {
            name: torch.empty_like(p, dtype=torch.bfloat16).requires_grad_() for name, p in self._parameters.items()
        }
        if not self._agrees(images, alone):
            self._parameters, self._copies = {}, {}
        for buffer, value in zip(model.buffers(), statistics, strict=True):
            buffer.copy_(value)

    def __len__(self) -> int:
        """Number of parameters that are copied."""
        return len(self._copies)

    def __call__(self, images: Tensor) -> Tensor:
        """The model's output, computed with the present weights; to be called within autocast."""
        if self._copies:
            with torch.no_grad():
                torch._foreach_copy_([*self._copies.values()], [*self._parameters.values()])
        for copy in self._copies.values():
            copy.grad = None
        output: Tensor = functional_call(self._model, self._copies, (images,)) if self._copies else self._model(images)
        return output

    def give_gradients(self) -> None:
        """After the backward pass: give the parameters the gradients of their copies, in float32."""
        learned, gradients = [], []
        for parameter, copy in zip(self._parameters.values(), self._copies.values(), strict=True):
            if copy.grad is not None:
                parameter.grad = torch.empty_like(parameter)
                learned.append(parameter.grad)
                gradients.append(copy.grad)
        if learned:
            torch._foreach_copy_(learned, gradients)

    def _run(self, images: Tensor) -> Tensor:
        """The output for a batch, whatever the model draws at random; without gradients it would be another path."""
        cuda = [images.device] if images.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda), torch.autocast(images.device.type, torch.bfloat16):
            torch.manual_seed(0)
            return self(images).detach()

    def _agrees(self, images: Tensor, alone: Tensor) -> bool:
        try:
            return torch.equal(self._run(images), alone)
        except (RuntimeError, TypeError):  # scripted parts do not take other parameters
            return False


class _Copied(DispatchMode):
    """Sees which parameters are read by nothing but copies to bfloat16.

    Attributes:
        copied: those.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._parameters = {id(p): p for p in model.parameters() if p.dtype == torch.float32}
        self.copied: set[Tensor] = set()
        self._others: set[Tensor] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        copies = func is torch.ops.aten._to_copy.default and result.dtype == torch.bfloat16
        for value in pytree.tree_leaves((args, kwargs)):
            if id(value) in self._parameters:
                (self.copied if copies else self._others).add(value)
        self.copied -= self._others
        return result
