"""Turn importance into a plan: which channels stay."""

import functools
from pathlib import Path
from typing import Any

import torch

from daar.checkpoint import checkpoint
from daar.data import loading
from daar.data.calibration import calibration_batch
from daar.methods import discovery
from daar.methods.discovery import Method
from daar.pruning import importance, policies
from daar.pruning import plan as plans
from daar.pruning.calibration_loss import CalibrationLoss
from daar.pruning.groups import channel_graph
from daar.pruning.planning import make_plan
from daar.pruning.slim import Removed


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
    round_to: int = 1,
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
        round_to: keep multiples of so many channels in each group.

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
        pack = loading.load(Path(packs) / "train.safetensors")
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
        round_to=round_to,
    )
    plans.save(out, made)
    return made
