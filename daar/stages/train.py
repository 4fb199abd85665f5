"""Train a dense network from scratch."""

from collections.abc import Callable
from pathlib import Path

import torch

from daar import models
from daar.checkpoint import checkpoint
from daar.checkpoint.checkpoint import Description
from daar.data import datasets, loading
from daar.device import distributed
from daar.device.randomness import derive
from daar.errors import InputError
from daar.storage import provenance
from daar.training.batches import Data
from daar.training.engine import fit
from daar.training.progress import curve_to_json
from daar.training.recipe import Recipe


def train(
    *,
    network: str,
    packs: Path,
    recipe: Recipe,
    seed: int,
    out: Path,
    device: torch.device,
    say: Callable[[str], None] = print,
) -> None:
    """Train and write a checkpoint; a killed run continues from `<out>/resume.safetensors`.

    With several processes, rank 0 writes.

    Args:
        network: name in the registry.
        packs: folder of the packed dataset; its test part is not read.
        recipe: of the training.
        seed: fixes initial weights, order and augmentation.
        out: folder of the checkpoint.
        device: that it trains on.
        say: gets a line per epoch.

    Raises:
        InputError: a name is unknown, network and images differ in size, data are missing or damaged, or the loss is
            not finite.
    """
    entry = models.get(network)
    train_pack, val_pack = (loading.load(Path(packs) / f"{split}.safetensors") for split in ("train", "val"))
    dataset = datasets.get(train_pack.dataset)
    if entry.input_shape != dataset.shape:
        raise InputError(
            f"{network} takes {entry.input_shape} images, {dataset.name} has {dataset.shape}. Choose another network."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("weights", seed))
        model = entry.build(len(train_pack.classes))
    data = Data(train_pack, val_pack, train_pack.mean, train_pack.std, dataset.flip)
    resume_file = Path(out) / "resume.safetensors"
    identity = {"network": network, "images": train_pack.checksum}
    progress = fit(model, data, recipe, seed, device, resume_file=resume_file, identity=identity, say=say)
    about = Description(
        network=network,
        dataset=dataset.name,
        num_classes=len(train_pack.classes),
        input_shape=dataset.shape,
        mean=train_pack.mean,
        std=train_pack.std,
        trained_on=("train",),
        plan=None,
        provenance={
            "seed": seed,
            "recipe": recipe.to_json(),
            "recipe_hash": recipe.hash,
            "curve": curve_to_json(progress.curve),
            "processes": distributed.processes(),
            "precision": progress.precision,
            **provenance.environment(),
        },
    )
    if distributed.is_first():
        checkpoint.save(out, model, about)
        resume_file.unlink(missing_ok=True)
    distributed.all_reduce_max(0)  # a barrier: no process may end the run before all is written
