"""Copy a network, whatever tensors its modules hold."""

import copy

import torch
from torch import Tensor, nn


def copied(model: nn.Module) -> nn.Module:
    """A copy that shares nothing with the model.

    Tensors that are made of parameters, as torch.nn.utils.prune and weight_norm keep them between calls, cannot be
    copied by torch; the copy has their values, until its own code makes them again.
    """
    memo: dict[int, object] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)


def doubled(model: nn.Module) -> nn.Module:
    """A copy on the CPU in float64; tensors that modules hold as plain attributes too."""
    # converted while they are copied: to copy a network and then convert it takes twice as long
    memo: dict[int, object] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers, vars(module)):
            for value in held.values():
                if isinstance(value, Tensor) and id(value) not in memo:
                    memo[id(value)] = _double(value)
    double = copy.deepcopy(model, memo)
    for module in double.modules():
        for name, value in vars(module).items():
            # such as biases of attention that are kept by device; torch's own dicts begin with an underscore
            if type(value) is dict and not name.startswith("_"):
                value.update({key: _double(part) for key, part in value.items()})
    return double


def _double(value: object) -> object:
    """A tensor on the CPU, in float64 or of complex numbers of two of them; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    kind = torch.float64 if value.is_floating_point() else torch.complex128 if value.is_complex() else value.dtype
    made = value.detach().to("cpu", kind, copy=True)
    # torch runs other operations for what needs gradients, also where none are taken
    return nn.Parameter(made, requires_grad=value.requires_grad) if isinstance(value, nn.Parameter) else made
