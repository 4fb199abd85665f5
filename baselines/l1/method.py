"""L1: sum of a filter's absolute weights. Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017 (PFEC)."""

from collections.abc import Sequence

from torch import Tensor, nn

from daar.api import Batch, MethodInfo, filters

INFO = MethodInfo(
    name="l1",
    title="L1 (Li et al. 2017)",
    citation="li2017pruning",
    uses=("weights",),
    policy="uniform",
    deviations=(
        "one ratio for all layers by default; the paper sets ratios by hand and skips sensitive layers",
        "residual streams are pruned too at scope `all`; the paper prunes the first conv of a block only",
    ),
)


def score(model: nn.Module, batch: Batch, layers: Sequence[str]) -> dict[str, Tensor]:
    """Section 3.1: s_j = Σ |F_{i,j}|, the sum over the kernel weights of filter j, without normalisation.

    Args:
        model: the dense network.
        batch: not used.
        layers: paths of the convs to score.

    Returns:
        layer → (c_out,) float32, CPU; higher = keep.
    """
    return {layer: filters(model, layer).abs().sum(dim=(1, 2, 3)) for layer in layers}
