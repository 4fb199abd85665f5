"""Fisher: second-order change of the loss. Theis et al., "Faster Gaze Prediction with … Fisher Pruning", 2018."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from daar.api import Batch, MethodInfo, filter_gradients, map_gradients, sharing

INFO = MethodInfo(
    name="fisher",
    title="Fisher (Theis et al. 2018)",
    citation="theis2018faster",
    uses=("weights", "images", "labels"),
    policy="uniform",
    deviations=(
        "one-shot, then tuned; the paper removes channels one by one while it trains",
        "one ratio for all layers by default; the paper weighs what a channel adds to the loss against its FLOPs",
        "the loss is cross-entropy with the labels; the paper predicts fixations, after a teacher network",
    ),
)


def score(
    model: nn.Module,
    batch: Batch,
    layers: Sequence[str],
    *,
    form: Literal["maps", "group", "weights"] = "maps",
    batch_size: int = 128,
) -> dict[str, Tensor]:
    """Feature maps: Δ_k = 1/(2N) Σ_n g_nk², g_nk = −Σ_ij a_nkij ∂L_n/∂a_nkij, of image n and channel k.

    `group` (Liu et al., ICML 2021, Eq. 4) adds g_nk over all convs that share channel k before it squares; `weights`
    (LeCun et al. 1990) is Σ ½ h w² over a filter's weights, h the mean square of an image's gradient.

    Args:
        model: the dense network.
        batch: the calibration images and their labels.
        layers: paths of the convs to score.
        form: what the loss is differentiated by.
        batch_size: images per pass; changes memory and time, not the scores. `weights` takes one at a time.

    Returns:
        layer → (c_out,) float32, CPU; higher = keep.
    """
    parts: Iterator[tuple[str, Tensor]]
    if form == "weights":
        parts = (
            (name, (w * g).square().sum(dim=(1, 2, 3))) for name, w, g in filter_gradients(model, batch, layers, 1)
        )
    else:
        families = sharing(model, batch.images, layers) if form == "group" else [(layer,) for layer in layers]
        parts = _squares(model, batch, families, batch_size, "norms" if form == "group" else "maps")
    sums: dict[str, Tensor] = {}
    for layer, part in parts:
        sums[layer] = sums.get(layer, torch.zeros(())) + part.double()
    return {layer: (sums[layer] / (2 * len(batch))).float() for layer in layers}


def _squares(
    model: nn.Module, batch: Batch, families: Sequence[tuple[str, ...]], size: int, at: Literal["maps", "norms"]
) -> Iterator[tuple[str, Tensor]]:
    """For each pass and layer the sum over images of g², g added over the layer's family: (c_out,)."""
    family_of = {layer: family for family in families for layer in family}
    added: dict[tuple[str, ...], Tensor] = {}
    for layer, maps, gradients in map_gradients(model, batch, list(family_of), size, at=at):
        family, own = family_of[layer], (maps * gradients).sum(dim=(2, 3))
        added[family] = added[family] + own if family in added else own
        if layer == family[-1]:
            yield from ((member, added[family].square().sum(dim=0).cpu()) for member in family)
            del added[family]
