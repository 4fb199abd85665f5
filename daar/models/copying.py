"""Copy a network, whatever tensors its modules hold."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn


def copied(model: nn.Module, instead: Mapping[int, Tensor] = MappingProxyType({})) -> nn.Module:
    """A copy that shares nothing with the model.

    Tensors that are made of parameters, as torch.nn.utils.prune and weight_norm keep them between calls, cannot be
    copied by torch; the copy has their values, until its own code makes them again.

    Args:
        model: left as it is.
        instead: id of a tensor of the model → what the copy holds in its place.
    """
    memo: dict[int, Any] = dict(instead)
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf and id(value) not in memo:
                memo[id(value)] = value.detach().clone()
    return _copy(model, memo, _cloned)


@contextmanager
def lent(model: nn.Module) -> Iterator[nn.Module]:
    """As `doubled`, while the model is empty: its parameters move over one by one and come back to the bit.

    So both take twice the model's size together, not three times.
    """
    moved: list[tuple[nn.Parameter, nn.Parameter, torch.device, torch.dtype]] = []
    memo: dict[int, Any] = {}
    try:
        for value in sorted(model.parameters(), key=Tensor.numel, reverse=True):  # the largest while least is doubled
            memo[id(value)] = double = _double(value)
            if isinstance(double, nn.Parameter) and _is_alone(value):
                moved.append((value, double, value.device, value.dtype))
                value.data = value.data.new_empty(0)
        yield doubled(model, memo)
    finally:
        for value, double, device, kind in reversed(moved):
            value.data = double.data.to(device, kind)
            double.data = double.data.new_empty(0)


def _is_alone(value: nn.Parameter) -> bool:
    """Whether it is of real numbers and shares its memory with nothing."""
    return (
        value.is_floating_point()
        and value.layout is torch.strided
        and type(value.data) is Tensor
        and value.untyped_storage().nbytes() == value.numel() * value.element_size()
    )


def doubled(model: nn.Module, instead: Mapping[int, Any] = MappingProxyType({})) -> nn.Module:
    """A copy on the CPU in float64; tensors that modules hold as plain attributes too.

    Args:
        model: left as it is.
        instead: id of a tensor of the model → what the copy holds in its place.
    """
    # converted while they are copied: to copy a network and then convert it takes twice as long
    memo: dict[int, Any] = dict(instead)
    for module in model.modules():
        for held in (module._parameters, module._buffers, vars(module)):
            for value in held.values():
                if isinstance(value, Tensor) and id(value) not in memo:
                    memo[id(value)] = _double(value)
    double = _copy(model, memo, _double)
    for module in double.modules():
        for name, value in vars(module).items():
            # such as biases of attention that are kept by device; torch's own dicts begin with an underscore
            if type(value) is dict and not name.startswith("_"):
                value.update({key: _double(part) for key, part in value.items()})
    return double


def _copy(model: nn.Module, memo: dict[int, Any], of_tensor: Callable[[Any], Any]) -> nn.Module:
    """A deep copy; `of_tensor` makes the tensors of scripted parts, which torch leaves tied to the model's."""
    copy_of = copy.deepcopy(model, memo)
    for old, new in zip(model.modules(), copy_of.modules(), strict=True):
        if isinstance(old, torch.jit.ScriptModule):
            for held, own in ((old._parameters, new._parameters), (old._buffers, new._buffers)):
                for name, value in held.items():
                    if id(value) not in memo:
                        memo[id(value)] = of_tensor(value)
                    own[name] = memo[id(value)]
    return copy_of


def _cloned(value: Tensor) -> Tensor:
    """Apart from any other; a leaf, as of a parameter that a copy of scripted code has as a plain tensor."""
    made = value.detach().clone()
    return (
        nn.Parameter(made, requires_grad=value.requires_grad)
        if value.requires_grad or isinstance(value, nn.Parameter)
        else made
    )


def _double(value: object) -> object:
    """A tensor on the CPU, in float64 or of complex numbers of two of them; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    kind = torch.float64 if value.is_floating_point() else torch.complex128 if value.is_complex() else value.dtype
    made = value.detach().to("cpu", kind, copy=True)
    # torch runs other operations for what needs gradients, also where none are taken
    return nn.Parameter(made, requires_grad=value.requires_grad) if isinstance(value, nn.Parameter) else made
