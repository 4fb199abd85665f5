"""Measure any checkpoint: accuracy on val and test, MACs, parameters. The only stage that reads the test part."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from daar.checkpoint import checkpoint
from daar.checkpoint.checkpoint import Description
from daar.data import loading
from daar.data.loading import Split
from daar.errors import InputError
from daar.measure import accuracy, macs
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import graph_of


def measure(*, folder: Path, packs: Path, device: torch.device) -> dict[str, Any]:
    """Output of `daar measure --json`; scripts rely on its keys.

    Args:
        folder: of the checkpoint.
        packs: folder of the packed dataset.
        device: that the network runs on.

    Returns:
        network, dataset; top1 and top5 (percent of the test part; top5 null below 100 classes), val_top1 and val_top5
        (null where `val_seen`: training has seen them); images (of the test part); macs, macs_closed_form, macs_thop
        and params.

    Raises:
        InputError: the checkpoint or the dataset is missing or damaged, or they do not fit.
    """
    model, about = checkpoint.load(folder)
    test_pack = loading.load(Path(packs) / "test.safetensors")
    if len(test_pack.classes) != about.num_classes:
        raise InputError(
            f"{folder} knows {about.num_classes} classes, {packs} has {len(test_pack.classes)}. Choose its dataset."
        )
    val_seen = "val" in about.trained_on
    scores = accuracies(model, about, load_splits(packs, with_val=not val_seen), device)
    val = scores.get("val")
    return {
        "network": about.network,
        "dataset": test_pack.dataset,
        "top1": scores["test"].top1,
        "top5": scores["test"].top5,
        "val_top1": val and val.top1,
        "val_top5": val and val.top5,
        "val_seen": val_seen,
        "images": len(test_pack.labels),
        **sizes(model.cpu(), about),
    }


def load_splits(packs: Path, *, with_val: bool) -> dict[str, Split]:
    """The test part, and val unless its accuracy means nothing, since training has seen it."""
    return {
        split: loading.load(Path(packs) / f"{split}.safetensors") for split in (*(["val"] if with_val else []), "test")
    }


def accuracies(
    model: nn.Module, about: Description, splits: Mapping[str, Split], device: torch.device
) -> dict[str, accuracy.Accuracy]:
    """Accuracy on each split, in strict float32, with the network's own mean and std."""
    model.to(device).to(memory_format=torch.channels_last)
    return {name: accuracy.evaluate(model, split, about.mean, about.std, device) for name, split in splits.items()}


def sizes(model: nn.Module, about: Description) -> dict[str, int | None]:
    """MACs for one image by each counter, and parameters, of a network on the CPU."""
    image = torch.zeros(1, *about.input_shape)
    return {
        "macs": macs.count_macs(model, image),
        "macs_closed_form": ClosedForm(graph_of(model, about.input_shape))({}),
        "macs_thop": macs.count_macs_thop(model, image),
        "params": macs.count_params(model),
    }
