"""Count MACs and parameters of a network. There are three counters of MACs, which must not be confused.

MACs are multiply-accumulates of conv and linear layers for one image. torch's FLOPs, halved, are the reference; plans
are made with the closed form; thop's figure, which adds BN, is what many papers print.
"""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry

from daar.device.precision import evaluating
from daar.program.dispatch import DispatchMode


def count_macs(model: nn.Module, image: Tensor) -> int:
    """MACs for one image (1, C, H, W), counted while the network runs; torch counts 2 FLOPs for one."""
    with evaluating(model), _Counting() as counting:
        model(image)
    flops: int = counting.flops
    assert flops % 2 == 0, flops
    return flops // 2


class _Counting(DispatchMode):
    """Adds up FLOPs by torch's formulas, as its `FlopCounterMode` does, which loads torch's compiler."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func.overloadpacket)) is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        return result


def count_params(model: nn.Module) -> int:
    """Number of learnable parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs_thop(model: nn.Module, image: Tensor) -> int | None:
    """Thop's figure for one image; None if thop fails on the network.

    It runs on a copy, since thop leaves hooks and buffers in the network.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # thop imports distutils, which warns
        import thop

        try:
            macs, _ = thop.profile(copy.deepcopy(model).eval(), inputs=(image,), verbose=False)
        except Exception:  # this extra column must not stop a measurement
            return None
    return int(macs)
