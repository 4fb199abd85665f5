"""Score every filter of a dense network by a method."""

from pathlib import Path
from typing import Any

import torch

from daar.checkpoint import checkpoint
from daar.data import loading
from daar.data.calibration import calibration_batch
from daar.measure.finite import require_finite_output
from daar.methods.discovery import Method
from daar.pruning import importance, scoring
from daar.pruning.groups import graph_of
from daar.pruning.scoring import Batch


def score(
    *,
    base: Path,
    method: Method,
    options: dict[str, Any],
    packs: Path,
    seed: int,
    images: int,
    out: Path,
    device: torch.device,
) -> None:
    """Have a method score every filter and write importance.safetensors, one float32 vector per layer.

    Args:
        base: folder of the dense checkpoint.
        method: whose score().
        options: keyword options of the variant; those of the method's plan() are left to it.
        packs: folder of the packed dataset; only its train part is read.
        seed: fixes the calibration images, and the draw of a method that draws.
        images: how many calibration images.
        out: importance.safetensors.
        device: where the network runs.

    Raises:
        InputError: the method has no score(), an option is unknown, the network's output is not finite, or the scores
            break the contract.
    """
    model, about = checkpoint.load(base)
    pack = loading.load(Path(packs) / "train.safetensors")
    batch = Batch(*calibration_batch(pack, seed, images, about.mean, about.std))
    graph = graph_of(model, about.input_shape)
    # before a method would be blamed for its scores
    require_finite_output(model, batch.images)
    importance.save(out, scoring.score(model.to(device), batch, graph, method, options, seed))
