"""BN recalibration: running statistics of the slim network in place of the dense one's."""

import itertools

import torch
from torch import Tensor, nn

from daar.device.precision import strict_float32
from daar.errors import InputError


def recalibrate(model: nn.Module, images: Tensor, batch_size: int = 128) -> None:
    """Re-estimate the statistics of every BN layer on the calibration images, as the cumulative mean over batches.

    This is what EagleEye (Li et al., ECCV 2020) does before it evaluates a pruned network. Weights do not change.

    Args:
        model: on the images' device; left in the mode it was in.
        images: (N, C, H, W) float32, normalised, N ≥ 2.
        batch_size: images per forward pass; a single image left over joins the batch before.

    Raises:
        InputError: there are fewer than two images: one alone has no variance.
    """
    if len(images) < 2:
        raise InputError(f"BN recalibration needs two calibration images or more, got {len(images)}. Raise --images.")
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # for torch: a cumulative mean
        norm.train()
    starts = [start for start in range(0, len(images), batch_size) if len(images) - start > 1]
    batches = [images[start:stop] for start, stop in itertools.pairwise([*starts, len(images)])]
    with torch.no_grad(), strict_float32():
        for batch in batches:
            model(batch.clone(memory_format=torch.channels_last))  # which it may change in place
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for module, mode in modes:
        module.training = mode
