"""What a method's scores see: a few images, and in a shallow and a deep layer the filters it keeps and removes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from daar.api import feature_maps
from daar.checkpoint import checkpoint
from daar.data import loading
from daar.data.calibration import calibration_batch, calibration_indices
from daar.errors import InputError
from daar.methods import discovery
from daar.methods.discovery import Method
from daar.pruning import plan as plans
from daar.pruning import scoring
from daar.pruning.groups import ChannelGraph, graph_of
from daar.pruning.scoring import Batch
from daar.pruning.slim import Removed
from daar.storage import explanation
from daar.storage.explanation import Explanation, Seen

IMAGES = 3
FILTERS = 3  # of each kind, kept and removed


def explain(
    *,
    base: Path,
    plan_file: Path,
    method: Method,
    options: dict[str, Any],
    packs: Path,
    seed: int,
    images: int,
    out: Path,
    device: torch.device,
) -> None:
    """Have a method explain its scores and write attention.safetensors.

    Args:
        base: folder of the dense checkpoint.
        plan_file: plan.json that was made of the method's scores.
        method: whose explain().
        options: keyword options of the variant; those of the method's plan() do not matter.
        packs: folder of the packed dataset; only its train part is read.
        seed: fixes the calibration images.
        images: how many calibration images; the first of each of the first classes are shown.
        out: attention.safetensors.
        device: where the network runs.

    Raises:
        InputError: the method has no explain(), or the plan removes nothing.
    """
    if not method.explains:
        raise InputError(f"method {method.name!r} has no explain(), so there is nothing to show. Choose another.")
    model, about = checkpoint.load(base)
    graph = graph_of(model, about.input_shape)
    plan = plans.load(plan_file)
    removed = plan.removed(graph)
    shown = chosen_layers(graph, removed)
    pack = loading.load(Path(packs) / "train.safetensors")
    batch = Batch(*calibration_batch(pack, seed, images, about.mean, about.std)).to(device)
    chosen = first_of_classes(batch.labels.cpu())
    module = discovery.load(method)
    parts = module.explain(
        model.to(device).eval(), batch, graph.scored_layers(), **scoring.arguments(method, module, options, seed)
    )
    explained = _collect(parts, shown)
    # a copy of each: the network may overwrite what it gave
    maps = {layer: part.cpu().clone() for layer, part in feature_maps(model, batch.images[chosen.to(device)], shown)}
    seen = tuple(_seen(layer, _kept(graph, removed, layer), *explained[layer], maps[layer], chosen) for layer in shown)
    pixels = pack.pixels(calibration_indices(pack.dataset, seed, images, len(pack.labels))[chosen])
    classes = tuple(pack.classes[label] for label in batch.labels.cpu()[chosen].tolist())
    head: dict[str, Any] = {
        "network": about.network,
        "dataset": about.dataset,
        "method": method.name,
        "policy": plan.policy,
    }
    head |= {"target": plan.target, "seed": seed, "calibration_images": images}
    explanation.save(out, Explanation(head, pixels.numpy(), classes, seen))


def _seen(layer: str, kept: Any, shares: Tensor, places: Tensor | None, maps: Tensor, chosen: Tensor) -> Seen:
    """Of a layer's shares and places on all images what is shown."""
    filters = chosen_filters(shares.double().mean(dim=0).numpy(), kept)
    return Seen(
        name=layer,
        kept=kept,
        filters=filters,
        shares=shares[chosen].numpy(),
        maps=maps[:, torch.from_numpy(filters)].numpy(),
        attention=None if places is None else places[chosen].numpy(),
    )


def chosen_layers(graph: ChannelGraph, removed: Removed) -> list[str]:
    """The first and the last conv, in the order of execution, that loses filters; of streams only for want of others.

    Raises:
        InputError: none does.
    """
    losing = [group for group in graph.in_scope("all") if removed.get(group.name)]
    if not losing:
        raise InputError("the plan removes no filter, so there is nothing to show. Choose a plan with a higher target.")
    alone = [group for group in losing if len(group.members) == 1] or losing
    # of a stream the last conv, where it is measured
    return list(dict.fromkeys(group.members[-1] for group in (alone[0], alone[-1])))


def first_of_classes(labels: Tensor) -> Tensor:
    """Where the first image of each of the first IMAGES classes lies, (n,) int64."""
    values = labels.tolist()
    return torch.tensor([values.index(label) for label in sorted(set(values))[:IMAGES]])


def chosen_filters(importance: Any, kept: Any) -> Any:
    """The FILTERS kept ones with the most importance, then the FILTERS removed ones with the least, best first.

    Args:
        importance: (c_out,).
        kept: (c_out,) bool.
    """
    order = np.argsort(-importance, kind="stable")
    return np.concatenate([order[kept[order]][:FILTERS], order[~kept[order]][-FILTERS:]])


def _kept(graph: ChannelGraph, removed: Removed, layer: str) -> Any:
    """Which filters of a layer stay, (c_out,) bool."""
    group = next(group for group in graph.groups if layer in group.members)
    return ~np.isin(group.positions[layer], removed.get(group.name, []))


def _collect(
    parts: Iterable[tuple[str, Tensor, Tensor | None]], shown: list[str]
) -> dict[str, tuple[Tensor, Tensor | None]]:
    """Shares and attention maps of the layers shown, on all images, out of what explain() yields for all layers."""
    shares: dict[str, list[Tensor]] = {layer: [] for layer in shown}
    places: dict[str, list[Tensor]] = {layer: [] for layer in shown}
    for layer, part, where in parts:
        if layer in shares:
            shares[layer].append(part)
            places[layer] += [] if where is None else [where]
    return {layer: (torch.cat(shares[layer]), torch.cat(places[layer]) if places[layer] else None) for layer in shown}
