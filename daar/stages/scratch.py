"""Train a plan's slim network from scratch: the control that asks whether the inherited weights matter."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from daar.checkpoint import checkpoint
from daar.data import datasets, loading
from daar.device.randomness import derive
from daar.models import fresh
from daar.pruning import plan as plans
from daar.stages.finetune import tune
from daar.stages.prune import CHECKED_IMAGES, slim_by_plan
from daar.storage import files
from daar.training.batches import Data
from daar.training.budget import scratch_recipe
from daar.training.recipe import Recipe


def scratch(
    *,
    base: Path,
    plan_file: Path,
    packs: Path,
    recipe: Recipe,
    tuning_epochs: int,
    budget: str,
    seed: int,
    images: int,
    out: Path,
    device: torch.device,
    say: Callable[[str], None] = print,
) -> None:
    """Write the trained checkpoint, and beside it `best/` (the epoch highest on val).

    Args:
        base: folder of the dense checkpoint; only its architecture is used.
        plan_file: plan.json of the variant whose slim network it is.
        packs: folder of the packed dataset; its test part is not read.
        recipe: of the dense network.
        tuning_epochs: of the pruned network.
        budget: see `daar.training.budget`.
        seed: fixes initial weights, order and augmentation.
        images: how many calibration images, of which the first check the slim network.
        out: folder of the checkpoint.
        device: where.
        say: gets a line per epoch.

    Raises:
        InputError: plan and network do not fit, slim and masked network differ, or the loss is not finite.
    """
    train_pack, val_pack = (loading.load(Path(packs) / f"{split}.safetensors") for split in ("train", "val"))
    found = slim_by_plan(base, plan_file, train_pack, seed, images)
    say(f"slim network equals the masked one: {found.error:.1e} of the largest logit (float64, {CHECKED_IMAGES})")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("scratch weights", seed))
        fresh.initialise(found.model, found.about.network)
    recipe = scratch_recipe(recipe, tuning_epochs, budget, found.plan.macs_dense, found.plan.macs)
    origin = {"from_scratch": {"seed": seed, "budget": budget}}
    about = replace(found.about, trained_on=("train",), provenance={**found.about.provenance, **origin})
    identity = {"scratch": budget, "plan": files.digest(plans.to_json(found.plan)), "images": train_pack.checksum}
    data = Data(train_pack, val_pack, about.mean, about.std, datasets.get(about.dataset).flip)
    tune(found.model, about, data, recipe, seed, out, device, identity, say)


def is_from_scratch(about: checkpoint.Description) -> bool:
    """Whether a checkpoint's weights owe nothing to its base."""
    return "from_scratch" in about.provenance
