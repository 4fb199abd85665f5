"""Ways to run a network: eval mode, strict float32 for reported figures."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode, without gradients; then put each module back into its own mode."""
    # torch.jit.freeze leaves none
    modes = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def strict_float32() -> Iterator[None]:
    """Compute float32 in float32: no TensorFloat-32 on GPUs, no bfloat16 in oneDNN on CPUs."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32, cudnn.allow_tf32 = False, False
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@contextlib.contextmanager
def flushing_denormals(device: torch.device) -> Iterator[None]:
    """Flush denormal numbers to zero on a CPU: vanishing momenta become denormal, which is many times slower."""
    flush = device.type == "cpu"
    try:
        torch.set_flush_denormal(flush)
        yield
    finally:
        torch.set_flush_denormal(False)
