"""Prune and tune by a schedule other than one-shot: from a dense network to its plan and its tuned slim network."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from daar.checkpoint import checkpoint
from daar.checkpoint.checkpoint import Description
from daar.data import loading
from daar.errors import InputError
from daar.methods.discovery import Method
from daar.pruning import plan as plans
from daar.pruning.own_ratios import Spec
from daar.pruning.proof import CHECKED_IMAGES
from daar.stages.prune import slim_by_plan
from daar.stages.record import record
from daar.stages.rounds import BEST, iterative, layerwise
from daar.stages.scheduled import Asked
from daar.stages.soft import soft
from daar.storage import files
from daar.storage.schemas import validate
from daar.training.recalibrate import recalibrate
from daar.training.recipe import Recipe
from daar.training.schedules import Schedule


def schedule(
    *,
    base: Path,
    by: Schedule,
    method: Method,
    options: dict[str, Any],
    policy: str,
    scope: str,
    target: float | None,
    packs: Path,
    recipe: Recipe,
    seed: int,
    images: int,
    out: Path,
    device: torch.device,
    methods_dirs: tuple[Path, ...] = (),
    ratios: Spec | None = None,
    policy_options: Mapping[str, Any] | None = None,
    round_to: int = 1,
    made_from: str | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Write plan.json, in numbers of the dense network, and what `finetune` writes: the tuned network and its stages.

    A killed run goes on from `<out>/steps/`, which is removed in the end. There, and at the end from the dense network
    on, every slim network is compared with the masked one in float64; a difference stops the run.

    Args:
        base: folder of the dense checkpoint.
        by: the schedule.
        method: whose score() is called each time that the schedule scores.
        options: keyword options of the variant.
        policy: name of the policy.
        scope: `inner` or `all`.
        target: fraction of the dense MACs to be removed, or None for the policy's own rate.
        packs: folder of the packed dataset; its test part is not read.
        recipe: of the tuning; its epochs are those of the whole schedule.
        seed: fixes calibration images, order and augmentation.
        images: how many calibration images.
        out: folder of the checkpoint.
        device: where the networks run.
        methods_dirs: further folders of methods, whose policies count too.
        ratios: of one's own, which take the policy's place.
        policy_options: keyword options of the policy, whosever that is.
        round_to: keep multiples of this number of channels in each group.
        made_from: hash of all that the setting follows from, where a workflow gives it.
        say: gets a line per epoch.

    Raises:
        InputError: the schedule does not fit recipe, method or target, the target is out of reach, slim and masked
            network differ, the loss is not finite, or `out` has another run's steps.
    """
    require_possible(by, method, target, recipe)
    train, val = (loading.load(Path(packs) / f"{split}.safetensors") for split in ("train", "val"))
    asked = Asked(
        by, Path(base), checkpoint.describe(base), method, options, policy, scope, target, train, val, recipe, seed,
        images, Path(out), device, say, methods_dirs, ratios, policy_options or {}, round_to, made_from,
    )  # fmt: skip
    asked.claim()
    if by.name == "soft":
        model, about = soft(asked)
    else:
        last = iterative(asked) if by.name == "iterative" else layerwise(asked)
        model, about = checkpoint.load(last)
        if (last / BEST).exists():
            checkpoint.save(asked.out / BEST, *checkpoint.load(last / BEST))
    _finish(asked, model, about)


def require_possible(by: Schedule, method: Method, target: float | None, recipe: Recipe) -> None:
    """Refuse a schedule that cannot be had.

    Raises:
        InputError: it needs more epochs, a target, or a method that can be called again.
    """
    if problem := by.problem(recipe) or by.unfit(method, target):
        raise InputError(problem)


def _finish(asked: Asked, model: nn.Module, about: Description) -> None:
    """Write what `finetune` writes; the dense network slimmed by the plan gives the proof and `recalibrated`."""
    assert about.plan is not None
    plan_file = asked.out / "plan.json"
    plans.save(plan_file, about.plan)
    slimmed = slim_by_plan(asked.base, plan_file, asked.train, asked.seed, asked.images)
    asked.say(
        f"by the whole plan the slim network equals the masked one: {slimmed.error:.1e} of the largest logit "
        f"(float64, {CHECKED_IMAGES} images)"
    )
    recalibrate(slimmed.model.to(asked.device), slimmed.calibration.to(asked.device))
    checkpoint.save(asked.out / "recalibrated", slimmed.model, slimmed.about)
    error = max(slimmed.error, about.provenance["slim_error"])
    checkpoint.save(asked.out, model, replace(about, provenance={**about.provenance, "slim_error": error}))
    shutil.rmtree(asked.folder, ignore_errors=True)


def record_scheduled(*, run: Path, out: Path, **how: Any) -> dict[str, Any]:
    """Write the record of a setting that a schedule made: that of any setting, and the schedule with its parts.

    Args:
        run: folder that `schedule` wrote.
        out: record.json.
        how: further arguments of `daar.stages.record.record`.

    Raises:
        InputError: a file is missing or damaged, or no schedule made the network.
    """
    tuned = checkpoint.describe(run).provenance.get("tuned", {})
    if "schedule" not in tuned:
        raise InputError(f"{run} should be a network that `daar schedule` wrote, but is another. Give its folder.")
    with tempfile.TemporaryDirectory(prefix="daar-record-") as folder:
        content = record(run=run, out=Path(folder) / "record.json", **how)
    parts = {key: tuned["schedule"][key] for key in ("name", "options", "epochs", "macs")}
    content = {**content, "schedule": parts}
    validate(content, "record", str(out), "Report this: a stage wrote what the record cannot hold.")
    files.write_json(out, content)
    return content
