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
    double = copied(model).cpu().double()
    for module in double.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.is_floating_point():
                module.__dict__[name] = value.to("cpu", torch.float64)
            elif type(value) is dict:  # such as biases of attention that are kept by device
                module.__dict__[name] = {key: _double(part) for key, part in value.items()}
    return double


def _double(value: object) -> object:
    return value.to("cpu", torch.float64) if isinstance(value, Tensor) and value.is_floating_point() else value
