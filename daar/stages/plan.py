"""Turn importance into a plan: which channels stay."""

from pathlib import Path
from typing import Any

import torch

from daar.checkpoint import checkpoint
from daar.data import loading
from daar.data.calibration import calibration_batch
from daar.methods.discovery import Method
from daar.pruning import importance
from daar.pruning import plan as plans
from daar.pruning.calibration_loss import CalibrationLoss
from daar.pruning.groups import graph_of
from daar.pruning.own_ratios import Spec
from daar.pruning.planning import plan_by_policy


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
    ratios: Spec | None = None,
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
        round_to: keep multiples of this number of channels in each group.
        ratios: of one's own, which take the policy's place.

    Raises:
        InputError: scores and network do not fit, or the target is out of reach.
    """
    model, about = checkpoint.load(base)
    graph = graph_of(model, about.input_shape)
    importances = importance.load(scores)
    importance.check(importances, importance.widths(graph), str(scores), "Score this network: daar score")

    def calibration_loss() -> CalibrationLoss:
        pack = loading.load(Path(packs) / "train.safetensors")
        batch, _ = calibration_batch(pack, seed, images, about.mean, about.std)
        return CalibrationLoss(model.to(device), graph, batch.to(device))

    made = plan_by_policy(
        graph, importances, method, policy, options=options, make_loss=calibration_loss, scope=scope, target=target,
        round_to=round_to, network=about.network, methods_dirs=methods_dirs, ratios=ratios,
    )  # fmt: skip
    plans.save(out, made)
    return made
