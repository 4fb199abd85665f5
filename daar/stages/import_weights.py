"""Turn published weights (.pt, .th) into a checkpoint of ours."""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daar import checkpoint, files, models, provenance
from daar.checkpoint import Description
from daar.data import datasets
from daar.errors import InputError

_NESTINGS = ("state_dict", "model", "net", "model_state_dict")


def import_weights(
    *,
    file: Path,
    network: str,
    dataset: str,
    out: Path,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    trained_on: tuple[str, ...] = ("train", "val"),
) -> None:
    """Read a foreign state dict and write a checkpoint.

    Args:
        file: a file of torch.save; unpickled as plain tensors only.
        network: name in the registry whose layers bear the names that the file uses.
        dataset: what it was trained on; gives the classes.
        out: folder of the checkpoint.
        mean: per channel, of pixels in 0..1, as its training normalised.
        std: likewise.
        trained_on: which of our splits it has seen. Published CIFAR weights have seen all train images, val among them.

    Raises:
        InputError: the file is no state dict of this network; names the first key that is too much, absent or of
            another shape.
    """
    facts = datasets.get(dataset)
    if len(mean) != facts.shape[0] or len(std) != facts.shape[0]:
        raise InputError(f"mean and std must have {facts.shape[0]} values each, got {len(mean)} and {len(std)}.")
    about = Description(
        network=network,
        dataset=dataset,
        num_classes=len(facts.classes),
        input_shape=models.get(network).input_shape,
        mean=mean,
        std=std,
        trained_on=trained_on,
        plan=None,
        provenance={
            "imported": {"file": Path(file).name, "sha256": files.sha256(file) if Path(file).exists() else None},
            **provenance.environment(),
        },
    )
    model = checkpoint.build_dense(about)
    # files older than torch 0.4.1 lack BN's batch counters, which no result depends on
    counters = {name: value for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")}
    checkpoint.load_state(model, counters | state_dict(file), str(file))
    checkpoint.save(out, model, about)


def state_dict(file: Path) -> dict[str, Tensor]:
    """The tensors of a foreign checkpoint, out of its wrapping and without DataParallel's prefix.

    Raises:
        InputError: it is absent, damaged, holds more than tensors and plain values, or no state dict.
    """
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{file} should hold weights, but there is no such file. Check the path.") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{file} should be a state dict saved by torch.save, but it cannot be read safely: {reason} "
            "Save it again as a plain state dict of tensors."
        ) from error
    for key in _NESTINGS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(
            f"{file} holds a {type(content).__name__} and no state dict of tensors. Save model.state_dict()."
        )
    return {name.removeprefix("module."): value.contiguous() for name, value in content.items()}
