"""Turn importance into a plan: which channels stay."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daar import checkpoint, discovery
from daar.data import packed
from daar.data.calibration import calibration_batch
from daar.discovery import Method
from daar.modes import strict_float32
from daar.pruning import importance, policies
from daar.pruning import plan as plans
from daar.pruning.groups import ChannelGraph, channel_graph
from daar.pruning.planning import make_plan
from daar.pruning.slim import Masked, Removed


def plan(
    *,
    base: Path,
    scores: Path,
    method: Method,
    options: dict[str, Any],
    policy: str,
    scope: str,
    target: float | None,
    packs: Path,
    seed: int,
    images: int,
    out: Path,
    device: torch.device,
    methods_dirs: tuple[Path, ...] = (),
) -> plans.Plan:
    """Choose the channels that stay and write plan.json.

    Args:
        base: folder of the dense checkpoint.
        scores: importance.safetensors.
        method: whose scores; its plan() options are taken where the policy is its own.
        options: keyword options of the variant.
        policy: name of the policy.
        scope: `inner` or `all`.
        target: fraction of the dense MACs to be removed, or None for the policy's own rate.
        packs: folder of the packed dataset; read only by policies that ask for the calibration loss.
        seed: fixes the calibration images.
        images: how many calibration images.
        out: plan.json.
        device: where the network runs.
        methods_dirs: further folders of methods, whose policies count too.

    Raises:
        InputError: scores and network do not fit, or the target is out of reach.
    """
    model, about = checkpoint.load(base)
    graph = channel_graph(model, torch.zeros(1, *about.input_shape))
    found = importance.load(scores)
    importance.check(found, {layer: len(graph.layers[layer].outputs) for layer in graph.scored_layers()}, str(scores))
    chosen: dict[str, Any] = {}
    if method.plans is not None and method.policy == policy:
        _, chosen = discovery.split_options(method, options)

    def calibration_loss(removed: Removed) -> float:
        pack = packed.load(Path(packs) / "train.safetensors")
        batch, _ = calibration_batch(pack, seed, images, about.mean, about.std)
        return masked_loss(model.to(device), graph, removed, batch.to(device))

    made = make_plan(
        graph,
        found,
        policies.get(policy, methods_dirs, network=about.network),
        loss=calibration_loss,
        options=chosen,
        method=method.name,
        policy_name=policy,
        scope=scope,
        target=target,
    )
    plans.save(out, made)
    return made


def masked_loss(
    model: nn.Module, graph: ChannelGraph, removed: Removed, images: Tensor, batch_size: int = 256
) -> float:
    """Mean cross-entropy of the masked network to the dense network's predictions, in strict float32.

    No labels: what counts is how far pruning moves the network from what it was.

    Args:
        model: the dense network, on the images' device.
        graph: its channel groups.
        removed: group → indices of the channels masked.
        images: (N, C, H, W), normalised.
        batch_size: images per forward pass.
    """
    masked, dense = Masked(model, graph, removed), Masked(model, graph, {})
    total = 0.0
    with strict_float32():
        for batch in images.split(batch_size):
            target = dense.logits(batch).softmax(1)
            total += float(F.cross_entropy(masked.logits(batch), target, reduction="sum"))
    return total / len(images)
