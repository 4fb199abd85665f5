"""L2: Euclidean norm of a filter. He et al., "Soft Filter Pruning …", IJCAI 2018 (SFP)."""

from collections.abc import Sequence

from torch import Tensor, nn

from daar.api import Batch, MethodInfo, filters

INFO = MethodInfo(
    name="l2",
    title="L2 (He et al. 2018)",
    citation="he2018soft",
    uses=("weights",),
    policy="uniform",
    deviations=(
        "one-shot on a trained network, then tuned; the paper zeroes filters after every epoch of training",
        "really slimmed; the paper counts FLOPs of a masked network, its BN shifts left in place",
    ),
)


def score(model: nn.Module, batch: Batch, layers: Sequence[str]) -> dict[str, Tensor]:
    """The filter's L2 norm: ||F_j||_2 = (Σ |F_j|²)^½, over the kernel weights of filter j.

    Args:
        model: the dense network.
        batch: not used.
        layers: paths of the convs to score.

    Returns:
        layer → (c_out,) float32, CPU; higher = keep.
    """
    return {layer: filters(model, layer).flatten(1).norm(dim=1) for layer in layers}
