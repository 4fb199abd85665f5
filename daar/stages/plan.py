"""Turn importance into a plan: which channels stay."""

import functools
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

    @functools.cache
    def calibration() -> CalibrationLoss:
        pack = packed.load(Path(packs) / "train.safetensors")
        batch, _ = calibration_batch(pack, seed, images, about.mean, about.std)
        return CalibrationLoss(model.to(device), graph, batch.to(device))

    def loss(removed: Removed) -> float:
        return calibration()(removed)  # images are read only for a policy that asks

    made = make_plan(
        graph,
        found,
        policies.get(policy, methods_dirs, network=about.network),
        loss=loss,
        options=chosen,
        method=method.name,
        policy_name=policy,
        scope=scope,
        target=target,
    )
    plans.save(out, made)
    return made


class CalibrationLoss:
    """Mean cross-entropy of a masked network to the dense network's predictions, in strict float32.

    No labels: what counts is how far pruning moves the network from what it was. The dense predictions are made once.

    Args:
        model: the dense network, on the images' device.
        graph: its channel groups.
        images: (N, C, H, W), normalised.
        batch_size: images per forward pass.
    """

    def __init__(self, model: nn.Module, graph: ChannelGraph, images: Tensor, batch_size: int = 256) -> None:
        self._model, self._graph, self._count = model, graph, len(images)
        dense = Masked(model, graph, {})
        with strict_float32():
            self._batches = [(part, dense.logits(part).softmax(1)) for part in images.split(batch_size)]

    def __call__(self, removed: Removed) -> float:
        """The loss with the given channels, group → indices, masked."""
        masked = Masked(self._model, self._graph, removed)
        with strict_float32():
            losses = (F.cross_entropy(masked.logits(x), dense, reduction="sum") for x, dense in self._batches)
            return float(sum(map(float, losses))) / self._count
