"""The weights of a training in bfloat16, copied at once before each step; autocast copies them one by one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from daar.models.copying import copied
from daar.program.dispatch import DispatchMode


class _Held:
    """Runs a model with the named parameters in bfloat16.

    Args:
        model: in training mode.
        names: of the parameters.
    """

    def __init__(self, model: nn.Module, names: set[str]) -> None:
        self._model = model
        self._parameters: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if name in names}
        self._copies = {
            name: torch.empty_like(p, dtype=torch.bfloat16).requires_grad_() for name, p in self._parameters.items()
        }

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


class Bf16Weights(_Held):
    """Runs a model under autocast with those parameters in bfloat16 of which autocast would use such copies alone.

    Losses and gradients are to the bit those of autocast alone: the first batch is run both ways, forward and
    backward, by copies of the model. One whose outputs or gradients differ (it asks for the type of a weight, holds one
    elsewhere too, or runs parts again in the backward pass) has no copies. A step of many layers then has two launches
    of kernels for its copies in place of two for each parameter.

    Args:
        model: in training mode; left as it is.
        images: of one batch, normalised; left as they are.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        super().__init__(model, _fitting(model, images))


def _fitting(model: nn.Module, images: Tensor) -> set[str]:
    """Names of parameters with whose copies a step is to the bit one of autocast alone."""
    cuda = [images.device] if images.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=cuda):
            alone = copied(model)
            used = _Copied(alone)
            with used:
                output = _run(alone, images)
            expected = _outcome(alone, output)
            # a copy has no hooks
            hooked = {name for name, p in model.named_parameters() if p._backward_hooks}
            names = {n for n, p in alone.named_parameters() if p in used.copied and p.requires_grad} - hooked
            other = copied(model)
            held = _Held(other, names)
            output = _run(held, images)
            same = all(_equal(*pair) for pair in zip(expected, _outcome(other, output, held), strict=True))
    except Exception:  # a model that cannot be copied, scripted parts that take no other parameters
        return set()
    return names if same else set()


def _run(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The output for a batch, whatever the model draws at random."""
    torch.manual_seed(0)
    with torch.autocast(images.device.type, torch.bfloat16):
        return network(images.clone())


def _outcome(model: nn.Module, output: Tensor, held: _Held | None = None) -> list[Tensor | None]:
    """The output, and the gradients of a loss for it."""
    output.float().square().mean().backward()  # type: ignore[no-untyped-call]  # torch's
    if held is not None:
        held.give_gradients()
    return [output.detach(), *(p.grad for p in model.parameters())]


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return torch.equal(one, other) if one is not None and other is not None else one is other


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
