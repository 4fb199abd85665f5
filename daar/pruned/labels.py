"""Labels as a method gets them: those that were given, or what stands in for them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from daar.methods.discovery import Method
from daar.program.inputs import count
from daar.pruned.images import Placed
from daar.pruning.scoring import Batch
from daar.storage.bundled import BASELINES, PACKAGE


def batch_for(
    placed: Placed, labels: Tensor | None, method: "str | Callable[..., Any]", scorer: Method
) -> tuple[Batch, tuple[str, ...]]:
    """The batch that a method scores on, and a sentence if it reads labels and none were given that it can read.

    Functions, and methods of one's own, get labels of any shape as they are. The methods of daar read classes (N,): of
    other labels they get none.

    Args:
        placed: the images, and what the network predicts for them.
        labels: (N, …), or None.
        method: as it was given.
        scorer: the same, described.
    """
    device = placed.device
    own = callable(method) or not any(scorer.code.is_relative_to(folder) for folder in (PACKAGE, BASELINES))
    if labels is not None and (own or _are_classes(labels)):
        labels = labels.clone() if labels.is_inference() else labels  # else no gradient could be taken
        return Batch(placed.images, (labels.to(torch.int64) if _are_classes(labels) else labels).to(device)), ()
    reads = callable(method) or "labels" in scorer.info.get("uses", ())
    given = "none were given" if labels is None else "those that were given are not one class per image"
    if placed.predictions is None:
        classes = torch.zeros(count(placed.images), dtype=torch.int64, device=device)
        said = f"labels: {given}, and the network's output is not logits (N, C); zeros stand in."
    else:
        classes, said = placed.predictions, f"labels: {given}; the network's own predictions stand in."
    return Batch(placed.images, classes), (said,) if reads else ()


def _are_classes(labels: Tensor) -> bool:
    return labels.dim() == 1 and not labels.is_floating_point() and not labels.is_complex()
