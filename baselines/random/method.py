"""Random importance: the control that every criterion has to beat.

Mittal et al., "Recovering from Random Pruning: On the Plasticity of Deep Convolutional Neural Networks", WACV 2018,
found it hard to beat after fine-tuning.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from daar.api import Batch, MethodInfo, filters

INFO = MethodInfo(
    name="random",
    title="random",
    citation="mittal2018recovering",
    uses=(),
    policy="uniform",
    control=True,
)


def score(model: nn.Module, batch: Batch, layers: Sequence[str], *, seed: int = 0) -> dict[str, Tensor]:
    """Draw each filter's importance uniformly from [0, 1).

    Args:
        model: the dense network; only the widths of its layers matter.
        batch: not used.
        layers: paths of the convs to score.
        seed: the setting's seed; with the layer's name it fixes the draw, whatever other layers there are.

    Returns:
        layer → (c_out,) float32, CPU; higher = keep.
    """
    return {layer: torch.rand(len(filters(model, layer)), generator=_generator(seed, layer)) for layer in layers}


def _generator(seed: int, layer: str) -> torch.Generator:
    name = hashlib.sha256(f"random {seed} {layer}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(name[:7], "big"))
