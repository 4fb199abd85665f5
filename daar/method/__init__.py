"""DAAR: dual attention and an adaptive pruning rate. Lian, Zhao & Pei, Applied Intelligence 55(6), 2025.

The full text is not open: this is a reconstruction from the abstract. docs/method.md says what is fact, what is
inferred and what we chose, numbers the equations, and works an example by hand.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from daar.api import Batch, InputError, MethodInfo, feature_maps, outgoing, sharing

from .attention import MEASURES, Measure
from .boundary import by_classes, by_depth, by_side, eta_squared
from .rates import Cumulative, descend, largest

INFO = MethodInfo(
    name="daar",
    title="DAAR, reconstructed (Lian et al. 2025)",
    citation="lian2025dual",
    uses=("weights", "images"),
    policy="adaptive",
    deviations=(
        "a reconstruction from the abstract: the full text is not open, so every formula is ours",
        "one-shot, then tuned; the abstract does not say",
    ),
)


def score(
    model: nn.Module,
    batch: Batch,
    layers: Sequence[str],
    *,
    attention: Literal["dual", "spatial", "channel", "swapped"] = "dual",
    score: Literal["variation", "share", "consistency", "cbam_sigmoid"] = "variation",
    weighting: Literal["none", "outgoing"] = "none",
    boundary: Literal["side", "auto"] | float = "side",
    stream: Literal["last", "mean"] = "last",
) -> dict[str, Tensor]:
    """Eq. 1: a filter's share of its layer's attention over the calibration images.

    Args:
        model: the dense network.
        batch: the calibration images; their labels are read by boundary `auto` alone.
        layers: paths of the convs to score.
        attention: `dual` takes spatial attention in shallow layers and channel attention in deep ones; `swapped` the
            reverse; `spatial` and `channel` take one everywhere.
        score: the measure, see `attention.MEASURES`.
        weighting: `outgoing` multiplies a share by the L1 norm of the weights that read the channel. It goes beyond
            the abstract: name such a variant.
        boundary: `side` or `auto`, see boundary.py, or the fraction of the layers that count as shallow.
        stream: where the attention of a residual stream is measured: `last` has every conv that writes into it share
            what the last one's maps show, behind the last addition; `mean` gives each its own.

    Returns:
        layer → (c_out,) float32, CPU, summing to 1 where weighting is `none`; higher = keep.

    Raises:
        InputError: an unknown value, or boundary `auto` with too few images.
    """
    options = {"attention": attention, "score": score, "boundary": boundary, "stream": stream}
    source, measures = _measured(model, batch, layers, **options)
    shares = {layer: measure.shares().float().cpu() for layer, measure in measures.items()}
    scores = {layer: shares[source[layer]] for layer in layers}
    if weighting == "outgoing":
        norms = outgoing(model, batch.images, layers)
        scores = {layer: share * norms[layer] for layer, share in scores.items()}
    return scores


def explain(
    model: nn.Module, batch: Batch, layers: Sequence[str], *, weighting: str, **options: Any
) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """What `score` averages, image by image, and where each shallow layer looks.

    Args:
        model: the dense network.
        batch: the calibration images.
        layers: paths of the convs to score.
        weighting: as of `score`.
        options: all other options of `score`.

    Yields:
        Some images at a time, (layer, (n, c_out) shares, (n, H, W) the layer's attention map, summing to 1, or None
        where channels are compared instead of places), on the CPU.
    """
    source, measures = _measured(model, batch, layers, **options)
    norms = outgoing(model, batch.images, layers) if weighting == "outgoing" else {}
    for measured, maps in feature_maps(model, batch.images, sorted(measures)):
        measure = measures[measured]
        shares, places = measure.of_images(maps).float().cpu(), measure.places(maps)
        for layer in layers:
            if source[layer] == measured:
                yield layer, shares * norms.get(layer, 1), None if places is None else places.float().cpu()


def _measured(
    model: nn.Module, batch: Batch, layers: Sequence[str], **options: Any
) -> tuple[dict[str, str], dict[str, Measure]]:
    """As `_chosen`, its measures having seen the maps of all images, in one forward pass."""
    source, measures = _chosen(model, batch, layers, **options)
    for layer, maps in feature_maps(model, batch.images, sorted(measures)):
        measures[layer].add(maps)
    return source, measures


def _chosen(
    model: nn.Module, batch: Batch, layers: Sequence[str], *, attention: str, score: str, boundary: Any, stream: str
) -> tuple[dict[str, str], dict[str, Measure]]:
    """Layer → the layer by whose maps it is measured, and of each of those the measure. Arguments as of `score`."""
    spatial, channel = MEASURES[score]
    probe = {layer: maps[0, 0].numel() for layer, maps in feature_maps(model, batch.first(1).images, layers)}
    if boundary == "auto" and attention in ("dual", "swapped"):
        shallow = _told_apart(model, batch, layers)
    else:
        shallow = by_side(probe) if isinstance(boundary, str) else by_depth(probe, boundary)
    in_shallow, in_deep = {
        "dual": (spatial, channel),
        "swapped": (channel, spatial),
        "spatial": (spatial, spatial),
        "channel": (channel, channel),
    }[attention]
    last = {layer: family[-1] for family in sharing(model, batch.images, layers) for layer in family}
    source = last if stream == "last" else {layer: layer for layer in layers}
    return source, {layer: (in_shallow if layer in shallow else in_deep)() for layer in set(source.values())}


def _told_apart(model: nn.Module, batch: Batch, layers: Sequence[str]) -> set[str]:
    """The shallow layers by how well their pooled maps tell the classes apart."""
    classes = len(torch.unique(batch.labels))
    if len(batch.labels) < 10 * classes:
        raise InputError(
            f"boundary 'auto' compares classes and needs at least 10 images of each, {10 * classes} for the {classes} "
            f"there are, got {len(batch.labels)}. Raise calibration_images, or take boundary 'side'."
        )
    pooled: dict[str, list[Tensor]] = {}
    for layer, maps in feature_maps(model, batch.images, layers):
        pooled.setdefault(layer, []).append(maps.mean(dim=(2, 3)))
    return by_classes({layer: eta_squared(torch.cat(parts), batch.labels) for layer, parts in pooled.items()})


def plan(
    groups: Sequence[Any],
    importance: dict[str, Any],
    macs_target: int | None,
    *,
    macs: Callable[[dict[str, int]], int],
    loss: Callable[[dict[str, list[int]]], float],
    adjust: bool = True,
) -> dict[str, int]:
    """The adaptive pruning rate, Eq. 11 to 15: no rate is set by hand.

    Args:
        groups: the groups in scope.
        importance: group → (size,) shares.
        macs_target: the most MACs allowed, or None for as many as the mean threshold leaves.
        macs: MACs of one image for given counts.
        loss: calibration loss of the masked network; asked some five times for each group, eight at most, if `adjust`
            is on.
        adjust: give each group a rate of its own, by the loss that it adds alone per MAC that it saves.

    Returns:
        group → kept count.

    Raises:
        InputError: the target cannot be reached; says how much can be removed.
    """
    rule = Cumulative(groups, importance)
    if macs_target is None:
        kept = rule.above_mean()
        macs_target = macs(kept)
    else:
        kept = largest(rule, macs, macs_target)
    return descend(rule, loss, macs, macs_target) if adjust else kept
