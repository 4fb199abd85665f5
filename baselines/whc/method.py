"""WHC: norm times dissimilarity of filters. Chen et al., "WHC: Weighted Hybrid Criterion for Filter …", ICASSP 2023."""

from collections.abc import Sequence

from torch import Tensor, nn

from daar.api import Batch, MethodInfo, filters

INFO = MethodInfo(
    name="whc",
    title="WHC (Chen et al. 2023)",
    citation="chen2023whc",
    uses=("weights",),
    policy="uniform",
    deviations=("residual streams are pruned too at scope `all`, by the mean over their convs",),
)


def score(model: nn.Module, batch: Batch, layers: Sequence[str]) -> dict[str, Tensor]:
    """Eq. 1 (page 2): s_i = ||F_i||₂ Σ_{j ≠ i} ||F_j||₂ (1 − |cos θ_ij|), θ_ij the angle of filters i and j.

    Args:
        model: the dense network.
        batch: not used.
        layers: paths of the convs to score.

    Returns:
        layer → (c_out,) float32, CPU; higher = keep.
    """
    return {layer: _hybrid(filters(model, layer).flatten(1).double()) for layer in layers}


def _hybrid(rows: Tensor) -> Tensor:
    """(c_out, d) to (c_out,): ||F_i|| ||F_j|| − |F_i · F_j|, summed over j; zero for j = i."""
    norms = rows.norm(dim=1)
    apart: Tensor = norms[:, None] * norms - (rows @ rows.T).abs()
    apart.fill_diagonal_(0)
    return apart.clamp(min=0).sum(dim=1).float()
