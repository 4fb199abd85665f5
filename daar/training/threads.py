"""How many CPU threads a training uses: one for narrow networks, which two make slower.

Batch norm is slower on two threads than on one wherever channels are no multiple of 16, and convs of few
multiply-accumulates do not make up for it (docs/performance.md). So a slim network of CIFAR's size trains on one, and
several side by side use the cores. The rule looks at the network alone: the same network gives the same bits again.
"""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from daar.device.precision import evaluating

RESULT_NEUTRAL = "chooses threads, which records name"

# mean multiply-accumulates of a layer for one image: below the first no network gained from a second thread, from the
# second on each did
_FEW, _MANY = 0.5e6, 2e6


@contextlib.contextmanager
def suiting(model: nn.Module, input_shape: Sequence[int], device: torch.device) -> Iterator[bool]:
    """Let torch use one thread where it has several, if a narrow network is trained on the CPU; yield whether it does.

    Args:
        model: to be trained; left as it is.
        input_shape: (C, H, W) of its images.
        device: that it will be trained on.
    """
    before = torch.get_num_threads()
    one_is_faster = before > 1 and device.type == "cpu" and is_narrow(model, torch.zeros(1, *input_shape))
    if one_is_faster:
        torch.set_num_threads(1)
    try:
        yield one_is_faster
    finally:
        torch.set_num_threads(before)


def is_narrow(model: nn.Module, image: Tensor) -> bool:
    """Whether a training step takes longer on two threads than on one, by its layers' sizes and widths.

    Args:
        model: left as it is.
        image: (1, C, H, W).
    """
    macs: list[int] = []
    normed = {True: 0, False: 0}  # values that batch norm makes, by whether its channels are a multiple of 16

    def note(layer: nn.Module, _: object, made: Tensor) -> None:
        if isinstance(layer, nn.BatchNorm2d):
            normed[layer.num_features % 16 == 0] += made.numel()
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            macs.append(layer.weight[0].numel() * made.numel())

    hooks = [layer.register_forward_hook(note) for layer in model.modules()]
    try:
        with evaluating(model):
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    mean = sum(macs) / max(1, len(macs))
    return mean < _FEW or (mean < _MANY and normed[False] > normed[True])
