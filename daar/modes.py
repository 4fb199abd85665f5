"""Ways to run a network: eval mode, strict float32 for whatever is reported, bfloat16 where it makes training faster."""

import contextlib
import functools
import platform
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model and all its parts into eval mode, without gradients; then each back as it was."""
    modes = [(module, module.training) for module in model.modules()]
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
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


def resolve(precision: str, device: torch.device) -> str:
    """What `auto` means on this device: bf16 where the hardware multiplies bfloat16, else float32."""
    if precision != "auto":
        return precision
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else device.type == "cpu" and _cpu_has_bf16()
    return "bf16" if fast else "float32"


@functools.cache
def _cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16; without that, autocast on a CPU only adds conversions."""
    if platform.system() != "Linux":
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
