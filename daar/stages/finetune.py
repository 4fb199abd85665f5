"""Slim a dense network by a plan, prove it, recalibrate its BN, and tune it."""

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
from daar.pruning.slim import CHECKED_IMAGES
from daar.stages.prune import slim_by_plan
from daar.storage import files, provenance
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
    """Write the tuned checkpoint, and beside it `recalibrated/` and `best/` (the epoch highest on val).

    Before tuning the slim network is compared with the masked one in float64 on calibration images; a difference
    stops the run. A killed run goes on from `<out>/resume.safetensors`. Of several processes the first one writes.

    Args:
        base: folder of the dense checkpoint.
        plan_file: plan.json, whoever wrote it.
        packs: folder of the packed dataset; its test part is not read.
        recipe: how to tune; the same for every method of a table.
        seed: fixes calibration images, order and augmentation.
        images: how many calibration images recalibrate BN.
        out: folder of the checkpoint.
        device: where.
        say: gets a line per epoch.

    Raises:
        InputError: plan and network do not fit, slim and masked network differ, or the loss is not finite.
    """
    train_pack, val_pack = (loading.load(Path(packs) / f"{split}.safetensors") for split in ("train", "val"))
    found = slim_by_plan(base, plan_file, train_pack, seed, images)
    model, about = found.model, found.about
    say(
        f"slim network equals the masked one: {found.error:.1e} of the largest logit (float64, {CHECKED_IMAGES} images)"
    )

    identity = {
        "base": about.provenance["base"]["sha256"],
        "plan": files.digest(plans.to_json(found.plan)),
        "images": train_pack.checksum,
        "calibration_images": images,
    }
    recalibrate(model.to(device), found.calibration.to(device))
    if distributed.is_first():
        checkpoint.save(Path(out) / "recalibrated", model, about)

    data = Data(train_pack, val_pack, about.mean, about.std, datasets.get(about.dataset).flip)
    teacher = checkpoint.load(base)[0] if recipe.distillation else None
    tune(model, about, data, recipe, seed, out, device, identity, say, teacher)


def tune(
    model: nn.Module,
    about: Description,
    data: Data,
    recipe: Recipe,
    seed: int,
    out: Path,
    device: torch.device,
    identity: dict[str, Any],
    say: Callable[[str], None],
    teacher: nn.Module | None = None,
) -> None:
    """Train a slim network, going on from a resume file, and write its checkpoint and that of its best epoch."""
    resume_file = Path(out) / "resume.safetensors"
    progress = fit(
        model, data, recipe, seed, device, teacher=teacher, resume_file=resume_file, identity=identity, say=say
    )
    tuned = replace(about, provenance={**about.provenance, "tuned": _record(progress, recipe, seed)})
    if distributed.is_first():
        if progress.best_epoch:
            checkpoint.save_state(Path(out) / "best", progress.best, tuned)
        checkpoint.save(out, model, tuned)
        resume_file.unlink(missing_ok=True)
    distributed.all_reduce_max(0)  # or another process might end the run before all is written


def _record(progress: Progress, recipe: Recipe, seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "recipe": recipe.to_json(),
        "recipe_hash": recipe.hash,
        "best_epoch": progress.best_epoch,
        "curve": curve_to_json(progress.curve),
        "processes": distributed.processes(),
        **provenance.environment(),
    }
