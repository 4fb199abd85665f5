"""MACs and parameters of a network as it is, by three counters that must not be confused.

MACs are multiply-accumulates of conv and linear layers for one image. torch's counter, halved, is the truth; the closed
form is what plans are made with; thop's figure, which adds BN, is what many papers print.
"""

import copy
import warnings

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from daar.device.precision import evaluating


def count_macs(model: nn.Module, image: Tensor) -> int:
    """MACs for one image (1, C, H, W), counted while the network runs; torch counts 2 FLOPs for one."""
    with evaluating(model), FlopCounterMode(display=False) as counter:
        model(image)
    flops = counter.get_total_flops()
    assert flops % 2 == 0, flops
    return flops // 2


def count_params(model: nn.Module) -> int:
    """Number of learnable parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs_thop(model: nn.Module, image: Tensor) -> int | None:
    """What thop prints for one image; None where thop fails on the network.

    On a copy, since thop leaves hooks and buffers behind.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # thop imports distutils, which warns
        import thop

        try:
            macs, _ = thop.profile(copy.deepcopy(model).eval(), inputs=(image,), verbose=False)
        except Exception:  # a cross-check column must not stop a measurement
            return None
    return int(macs)
