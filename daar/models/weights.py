"""Weights are looked at wherever a network is loaded or given: names, shapes, types, and values no network can have.

One place for all: `daar import`, every command that loads a checkpoint, resume files, and `daar.prune`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from daar.errors import InputError

RESULT_NEUTRAL = "refuses weights, changes none"

_REMEDY = "The training failed or the file is damaged: take other weights."
# BN's buffers. An import has a COUNTER of its own (checkpoint/foreign.py), since its result depends on it, which here
# nothing does.
_COUNTER, _VARIANCE = "num_batches_tracked", "running_var"
# what `daar import` casts to float32, and what the layers of a user's own network may be of
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# tensors listed in a message before "and N more"
_SHOWN = 8
# Layers whose weights pruning reads and cuts. What else a module holds, such as a mask of -inf, is its own affair, and
# so are further buffers of a class made from one of these.
_LAYERS = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.PReLU)


def differences(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    """All names and shapes that differ, as one clause; empty if the weights fit.

    Args:
        expected: the network's state dict.
        weights: a state dict to be loaded into it.
    """
    parts = []
    if unknown := [name for name in weights if name not in expected]:
        parts.append(f"unknown {_names(unknown)}")
    if missing := [name for name in expected if name not in weights]:
        parts.append(f"missing {_names(missing)}")
    wrong = [name for name in expected if name in weights and expected[name].shape != weights[name].shape]
    if wrong:
        of = f"{wrong[0]!r} has shape {tuple(weights[wrong[0]].shape)}, expected {tuple(expected[wrong[0]].shape)}"
        parts.append(of + (f" (and {len(wrong) - 1} more of another shape)" if wrong[1:] else ""))
    return "; ".join(parts)


def _names(names: list[str]) -> str:
    listed = ", ".join(map(repr, names[:_SHOWN]))
    return listed + (f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else "")


def require_sound(
    weights: Mapping[str, Tensor], types: Mapping[str, torch.dtype], where: str, remedy: str = _REMEDY
) -> None:
    """Check types and values: all finite, no variance and no count of batches negative.

    Args:
        weights: tensors by name, such as a state dict whose names and shapes fit.
        types: the type that each must be of.
        where: begins the message: the file, or whose weights they are.
        remedy: ends it where values are not sound, a sentence.

    Raises:
        InputError: names the first tensor that is not sound, what is wrong with how many of its values, and how many
            more tensors there are.
    """
    faults = [f"{name} {fault}" for name, value in weights.items() if (fault := _fault(name, value, types[name]))]
    if not faults:
        return
    more = f" (and {len(faults) - 1} more tensors are not sound)" if faults[1:] else ""
    if any("expected torch" in fault for fault in faults):
        remedy = "Give weights of this type; quantised ones as they were before quantisation, sparse ones dense."
    raise InputError(f"{where}: {faults[0]}{more}. {remedy}")


def types_of(state: Mapping[str, Tensor]) -> dict[str, torch.dtype]:
    """The types of a network's own tensors."""
    return {name: value.dtype for name, value in state.items()}


def require_sound_module(model: nn.Module) -> None:
    """Check the layers of a user's own network, each in its own type, which must be a float type of 16 to 64 bits.

    Raises:
        InputError: as `require_sound`.
    """
    weights = {
        f"{path}.{name}" if path else name: value
        for path, module in model.named_modules()
        if isinstance(module, _LAYERS)
        for name, value in [*module.named_parameters(recurse=False), *_statistics(module)]
        if not nn.parameter.is_lazy(value) and not value.is_meta
    }
    types = {name: value.dtype if value.dtype in FLOATS else torch.float32 for name, value in weights.items()}
    require_sound(weights, types, "the model")


def _statistics(module: nn.Module) -> list[tuple[str, Tensor]]:
    """BN's running mean and variance, where it has them; its count of batches may be a float after averaging."""
    found = [(name, getattr(module, name, None)) for name in ("running_mean", _VARIANCE)]
    return [(name, value) for name, value in found if isinstance(value, Tensor)]


def _fault(name: str, value: Tensor, expected: torch.dtype) -> str:
    """What is wrong with a tensor, as a predicate; empty if nothing is."""
    if value.dtype != expected:
        return f"is of {value.dtype}, expected {expected}"
    if value.layout != torch.strided:
        return f"is {str(value.layout).removeprefix('torch.')}, expected torch.strided"
    may_be_negative = not name.endswith((_VARIANCE, _COUNTER))
    value = _comparable(value)
    if not value.numel() or _is_sound(value, may_be_negative):
        return ""
    kinds = [("NaN", int(value.isnan().sum())), ("infinite", int(value.isinf().sum()))]
    kinds += [] if may_be_negative else [("negative", int((value.isfinite() & (value < 0)).sum()))]
    counted = [f"{count:,} {kind}" for kind, count in kinds if count]
    values = "value" if sum(count for _, count in kinds) == 1 else "values"
    return f"has {' and '.join(counted)} {values} of {value.numel():,}"


def _comparable(value: Tensor) -> Tensor:
    """Complex numbers by their magnitude and 8-bit floats as float32: torch has no largest one of them."""
    if value.is_complex():
        return value.detach().abs()
    return value.float() if value.is_floating_point() and value.itemsize == 1 else value


def _is_sound(value: Tensor, may_be_negative: bool) -> bool:
    """One pass without a copy: NaN is both the least and the greatest wherever there is one."""
    least, greatest = value.detach().aminmax()
    return bool(least.isfinite() & greatest.isfinite()) and (may_be_negative or bool(least >= 0))
