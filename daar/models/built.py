"""What a network of one's own, or of a library, must be once it is built: a module that gives logits."""

from typing import Any

import torch
from torch import nn

from daar.errors import InputError, said

RESULT_NEUTRAL = "refuses networks, changes none"


def require_logits(model: Any, input_shape: tuple[int, int, int], num_classes: int, where: str) -> nn.Module:
    """Run a network once, on one black image in eval mode, and look at what it gives.

    Args:
        model: what was built.
        input_shape: (C, H, W) of one image.
        num_classes: expected length of the logits.
        where: begins the message.

    Returns:
        The network, in the mode that it was in, with its weights and torch's random state as they were.

    Raises:
        InputError: it is no module, fails, or gives something else than logits (1, num_classes).
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"{where} should return a torch.nn.Module, but returns a {type(model).__name__}. Correct it.")
    modes = {module: module.training for module in model.modules()}
    size = "x".join(map(str, input_shape[1:]))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            logits = model.eval()(torch.zeros(1, *input_shape))
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(
            f"{where}: the network fails on an image of {size}: {type(error).__name__}: {said(error)}. Correct it, or "
            "the size."
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != (1, num_classes):
        got = f"a tensor of {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        raise InputError(
            f"{where}: the network should give logits of (1, {num_classes}) for one image of {size}, but gives {got}. "
            "Its last layer should have num_classes outputs."
        )
    return model
