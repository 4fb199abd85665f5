"""Score every filter of a dense network by a method."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from daar.api import Batch
from daar.checkpoint import checkpoint
from daar.data import loading
from daar.data.calibration import calibration_batch
from daar.methods import discovery
from daar.methods.discovery import Method
from daar.pruning import importance
from daar.pruning.groups import channel_graph


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
        InputError: an unknown option, or scores that break the contract.
    """
    model, about = checkpoint.load(base)
    pack = loading.load(Path(packs) / "train.safetensors")
    batch = Batch(*calibration_batch(pack, seed, images, about.mean, about.std))
    module = discovery.load(method)
    chosen, _ = discovery.split_options(method, options)
    if discovery.takes_seed(module.score):
        chosen = {**chosen, "seed": seed}
    graph = channel_graph(model, torch.zeros(1, *about.input_shape))
    widths = {layer: len(graph.layers[layer].outputs) for layer in graph.scored_layers()}
    scores = run(module.score, model.to(device), batch, list(widths), chosen)
    importance.check(scores, widths, f"method {method.name!r}")
    importance.save(out, scores)


def run(function: Any, model: nn.Module, batch: Batch, layers: list[str], options: dict[str, Any]) -> Any:
    """Call score() in eval mode on the model's device."""
    device = next(model.parameters()).device
    return function(model.eval(), Batch(batch.images.to(device), batch.labels.to(device)), layers, **options)
