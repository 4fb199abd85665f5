"""Slim a dense network by a plan, check it against the masked one, recalibrate its BN, and tune it."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from daar.checkpoint import checkpoint
from daar.checkpoint.checkpoint import Description
from daar.data import datasets, loading
from daar.device import distributed
from daar.pruning import plan as plans
from daar.pruning.proof import CHECKED_IMAGES
from daar.stages.prune import slim_by_plan
from daar.storage import files, provenance
from daar.training import threads
from daar.training.batches import Data
from daar.training.engine import fit
from daar.training.progress import Progress, curve_to_json
from daar.training.recalibrate import recalibrate
from daar.training.recipe import Recipe


def finetune(
    *,
    base: Path,
    plan_file: Path,
    packs: Path,
    recipe: Recipe,
    seed: int,
    images: int,
    out: Path,
    device: torch.device,
    say: Callable[[str], None] = print,
) -> None:
    """Write the tuned checkpoint, and in its folder `recalibrated/` and `best/` (the best epoch on val).

    Before tuning, the slim network is compared with the masked one in float64 on calibration images; a difference
    stops the run. A killed run continues from `<out>/resume.safetensors`. With several processes, rank 0 writes.

    Args:
        base: folder of the dense checkpoint.
        plan_file: plan.json.
        packs: folder of the packed dataset; its test part is not read.
        recipe: of the tuning; the same for every method of a table.
        seed: fixes calibration images, order and augmentation.
        images: number of calibration images that recalibrate BN.
        out: folder of the checkpoint.
        device: that it tunes on.
        say: gets a line per epoch.

    Raises:
        InputError: plan and network do not fit, slim and masked network differ, or the loss is not finite.
    """
    train_pack, val_pack = (loading.load(Path(packs) / f"{split}.safetensors") for split in ("train", "val"))
    slimmed = slim_by_plan(base, plan_file, train_pack, seed, images)
    model, about = slimmed.model, slimmed.about
    say(
        f"slim network equals the masked one: {slimmed.error:.1e} of the largest logit "
        f"(float64, {CHECKED_IMAGES} images)"
    )

    identity = {
        "base": about.provenance["base"]["sha256"],
        "plan": files.digest(plans.to_json(slimmed.plan)),
        "images": train_pack.checksum,
        "calibration_images": images,
    }
    recalibrate(model.to(device), slimmed.calibration.to(device))
    if distributed.is_first():
        checkpoint.save(Path(out) / "recalibrated", model, about)

    data = Data(train_pack, val_pack, about.mean, about.std, datasets.get(about.dataset).flip)
    teacher = checkpoint.load(base)[0] if recipe.distillation else None
    tune(model, about, data, recipe, seed, out, device, identity, say, teacher)


def tune(
    model: nn.Module,
    about: Description,
    data: Data[Any],
    recipe: Recipe,
    seed: int,
    out: Path,
    device: torch.device,
    identity: dict[str, Any],
    say: Callable[[str], None],
    teacher: nn.Module | None = None,
) -> None:
    """Train a slim network, or continue from a resume file; write its checkpoint and that of its best epoch."""
    resume_file = Path(out) / "resume.safetensors"
    # a teacher is wide, and most of the work
    fitting = threads.suiting(model, about.input_shape, device) if teacher is None else contextlib.nullcontext(False)
    with fitting as one_is_faster:
        if one_is_faster:
            say("trains on one CPU thread, on which so narrow a network is faster than on several")
        progress = fit(
            model, data, recipe, seed, device, teacher=teacher, resume_file=resume_file, identity=identity, say=say
        )
        tuned = replace(about, provenance={**about.provenance, "tuned": _record(progress, recipe, seed)})
    if distributed.is_first():
        if progress.best_epoch:
            checkpoint.save_state(Path(out) / "best", progress.best, tuned)
        checkpoint.save(out, model, tuned)
        resume_file.unlink(missing_ok=True)
    distributed.all_reduce_max(0)  # a barrier: no process may end the run before all is written


def _record(progress: Progress, recipe: Recipe, seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "precision": progress.precision,
        "recipe": recipe.to_json(),
        "recipe_hash": recipe.hash,
        "best_epoch": progress.best_epoch,
        "curve": curve_to_json(progress.curve),
        "processes": distributed.processes(),
        **provenance.environment(),
    }
