"""Export a checkpoint to a file that runs without this package, and compare the file with the network."""

from pathlib import Path
from typing import Any

import torch

from daar import __version__
from daar.checkpoint import checkpoint
from daar.checkpoint.checkpoint import Description
from daar.measure import macs
from daar.measure.export import export as write
from daar.pruning import plan as plans
from daar.storage import files


def export(*, folder: Path, form: str, out: Path | None = None) -> tuple[Path, float]:
    """Write a checkpoint as ONNX or .pt2, in float32, with a free batch size.

    Args:
        folder: of the checkpoint.
        form: `onnx` or `pt2`.
        out: the file; None for model.onnx or model.pt2 in `folder`.

    Returns:
        The file, and the largest difference between its logits and the network's, relative to the largest logit.

    Raises:
        InputError: the checkpoint is missing or damaged, a package is not installed, or the file's logits differ.
    """
    model, about = checkpoint.load(folder)
    out = Path(folder) / f"model.{form}" if out is None else Path(out)
    card = _card(about, macs.count_macs(model, torch.zeros(1, *about.input_shape)))
    card["checkpoint"] = files.sha256(Path(folder) / "model.safetensors")
    return out, write(model, about.input_shape, out, form, card)


def _card(about: Description, count: int) -> dict[str, Any]:
    """Metadata of the file; keys as in docs/commands.md."""
    return {
        "network": about.network,
        "dataset": about.dataset,
        "num_classes": about.num_classes,
        "input_shape": list(about.input_shape),
        "normalisation": "(pixel in 0..1 - mean) / std, per channel, outside the network",
        "mean": list(about.mean),
        "std": list(about.std),
        "macs": count,
        "plan": about.plan and files.digest(plans.to_json(about.plan)),
        "daar": __version__,
    }
