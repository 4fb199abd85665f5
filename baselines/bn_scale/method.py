"""BN scale: |gamma| of the BN behind a conv. Liu et al., "Learning Efficient Convolutional Networks …", ICCV 2017."""

from collections.abc import Sequence

from torch import Tensor, nn

from daar.api import Batch, MethodInfo, batch_norms

INFO = MethodInfo(
    name="bn_scale",
    title="BN scale (Liu et al. 2017)",
    citation="liu2017learning",
    uses=("weights",),
    policy="uniform",
    deviations=(
        "the paper's penalty on gamma needs a dense network trained by the recipe network-slimming-train",
        "one ratio for all layers by default; the paper cuts at one threshold over the whole network",
        "residual streams are pruned by the BN behind the conv; the paper's ResNet selects channels before the block",
    ),
)


def score(model: nn.Module, batch: Batch, layers: Sequence[str]) -> dict[str, Tensor]:
    """Section 3: |γ_j|, the magnitude of channel j's scaling factor in the BN that follows the conv.

    Args:
        model: the dense network.
        batch: its images, whose size matters only.
        layers: paths of the convs to score.

    Returns:
        layer → (c_out,) float32, CPU; higher = keep.
    """
    return {layer: norm.weight.abs() for layer, norm in batch_norms(model, batch.images, layers).items()}
