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
from daar.pruning.proof import CHECKED_IMAGES
from daar.stages.finetune import tune
from daar.stages.prune import slim_by_plan
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
    """Write the trained checkpoint, and in its folder `best/` (the best epoch on val).

    Args:
        base: folder of the dense checkpoint; only its architecture is used.
        plan_file: plan.json of the variant whose slim network it is.
        packs: folder of the packed dataset; its test part is not read.
        recipe: of the dense network's training.
        tuning_epochs: epochs that the pruned network is tuned.
        budget: see `daar.training.budget`.
        seed: fixes initial weights, order and augmentation.
        images: number of calibration images; the first of them check the slim network.
        out: folder of the checkpoint.
        device: that it trains on.
        say: gets a line per epoch.

    Raises:
        InputError: plan and network do not fit, slim and masked network differ, or the loss is not finite.
    """
    train_pack, val_pack = (loading.load(Path(packs) / f"{split}.safetensors") for split in ("train", "val"))
    slimmed = slim_by_plan(base, plan_file, train_pack, seed, images)
    say(f"slim network equals the masked one: {slimmed.error:.1e} of the largest logit (float64, {CHECKED_IMAGES})")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("scratch weights", seed))
        fresh.initialise(slimmed.model, slimmed.about.network)
    recipe = scratch_recipe(recipe, tuning_epochs, budget, slimmed.plan.macs_dense, slimmed.plan.macs)
    origin = {"from_scratch": {"seed": seed, "budget": budget}}
    about = replace(slimmed.about, trained_on=("train",), provenance={**slimmed.about.provenance, **origin})
    identity = {"scratch": budget, "plan": files.digest(plans.to_json(slimmed.plan)), "images": train_pack.checksum}
    data = Data(train_pack, val_pack, about.mean, about.std, datasets.get(about.dataset).flip)
    tune(slimmed.model, about, data, recipe, seed, out, device, identity, say)


def is_from_scratch(about: checkpoint.Description) -> bool:
    """Whether a checkpoint was trained from scratch, so that its weights do not come from its base."""
    return "from_scratch" in about.provenance
