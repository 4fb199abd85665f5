"""DepGraph: L2 norm of all coupled parameters. Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from daar.api import Batch, MethodInfo, coupled

INFO = MethodInfo(
    name="depgraph",
    title="DepGraph (Fang et al. 2023)",
    citation="fang2023depgraph",
    uses=("weights",),
    policy="uniform",
    deviations=(
        "the network was not trained with the paper's group sparsity, which makes coupled weights vanish together",
        "one ratio for all groups by default; the paper ranks all channels together, each group's norms normalised",
        "biases and BN's shift count too, as parameters that go with the channel; the authors' code leaves them out",
    ),
)


def score(model: nn.Module, batch: Batch, layers: Sequence[str]) -> dict[str, Tensor]:
    """Group importance: I_k = Σ_{w ∈ g} ||w[k]||²₂, over all parameters w of group g that are coupled with channel k.

    Those are the filters of all convs that make the channel, scale and shift of its BNs, and the kernels and columns
    that the next layers read it by.

    Args:
        model: the dense network.
        batch: its images, whose size matters only.
        layers: paths of the convs to score.

    Returns:
        layer → (c_out,) float32, CPU; higher = keep.
    """
    groups = coupled(model, batch.images, layers)
    return {layer: torch.stack([p.square().sum(dim=1) for p in parts]).sum(dim=0) for layer, parts in groups.items()}
