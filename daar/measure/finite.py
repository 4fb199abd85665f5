"""Whether a network's output is finite: weights that are may still overflow on the way."""

from typing import Any

import torch
from torch import Tensor, nn

from daar.device.precision import evaluating
from daar.errors import InputError
from daar.program.outputs import tensors

RESULT_NEUTRAL = "refuses networks, changes none"

# images on which it is tried; one would do for most that overflow
TRIED_IMAGES = 16


def require_finite_output(model: nn.Module, images: Tensor) -> None:
    """Run a network on the first TRIED_IMAGES images, in the type in which it will be used.

    Args:
        model: left in the mode it was in.
        images: (N, C, H, W), normalised, on the model's device.

    Raises:
        InputError: a logit is NaN or infinite.
    """
    with evaluating(model):
        require_finite(model(images[:TRIED_IMAGES].clone()))  # it may change its images in place


def require_finite(output: Any) -> None:
    """Check what a network returned, (N, …) per head.

    Raises:
        InputError: a value is NaN or infinite; says for how many images.
    """
    for values in tensors(output):
        if lost := int((wrong := not_finite(values)).sum()):
            raise error(lost, len(wrong), "images")


def not_finite(values: Tensor) -> Tensor:
    """Which of N images have an output (N, …) with NaN or infinity in it: (N,) bool."""
    finite = torch.isfinite(values.to_dense() if values.layout is not torch.strided else values)
    return ~(finite.flatten(1).all(1) if values.dim() > 1 else finite.reshape(-1))


def error(lost: int, count: int, what: str) -> InputError:
    """The error for a network whose output is not finite for `lost` of `count` images, called `what`."""
    return InputError(
        f"the network's output should be finite, but is NaN or infinite for {lost:,} of {count:,} {what}: its values "
        "overflow, though its weights may be finite. Take other weights, or train again with a lower lr."
    )
