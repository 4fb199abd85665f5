"""Accuracy: correct / N, every image once, in eval mode and strict float32."""

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import nn

from daar.data.loading import Split
from daar.device import distributed
from daar.device.precision import evaluating, strict_float32
from daar.measure.finite import error, not_finite

# images per forward pass on a CPU, whose caches then hold a layer's output, and elsewhere; the count is the same
CPU_BATCH, BATCH = 100, 500


@dataclass(frozen=True)
class Accuracy:
    """Percent of images whose label has the highest logit, or one of the five highest (None below 100 classes)."""

    top1: float
    top5: float | None


def evaluate(
    model: nn.Module,
    pack: Split,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device,
    batch_size: int | None = None,
) -> Accuracy:
    """Classify every image of a split exactly once; several processes share the images.

    Args:
        model: on `device`; left in the mode it was in.
        pack: the split.
        mean: the network's own mean per channel, of pixels in 0..1.
        std: the network's own standard deviation per channel, of pixels in 0..1.
        device: of the model.
        batch_size: images per forward pass; the last may be shorter. None for what is fast on the device.

    Raises:
        InputError: a logit is NaN or infinite, for which there would be a class all the same.
    """
    batch_size = batch_size or (CPU_BATCH if device.type == "cpu" else BATCH)
    scale = 1 / (255 * torch.tensor(std, device=device))
    shift = torch.tensor(mean, device=device) * 255 * scale
    ranks = 5 if len(pack.classes) >= 100 else 1
    # images whose label is at each rank, and those whose logits are not finite
    counts = torch.zeros(ranks + 1, dtype=torch.int64, device=device)
    with strict_float32(), evaluating(model):
        for pixels, labels in pack.batches(*distributed.part(len(pack.labels)), batch_size):
            images = (pixels.to(device) * scale - shift).permute(0, 3, 1, 2)
            logits = model(images)
            best = logits.topk(ranks).indices
            counts[:ranks] += (best == labels.to(device)[:, None]).sum(0)
            counts[ranks] += not_finite(logits).sum()
    *correct, lost = distributed.all_reduce_sum(counts).tolist()
    if lost:
        raise error(lost, len(pack.labels), f"{pack.split} images of {pack.dataset}")
    percent = [100 * count / len(pack.labels) for count in accumulate(correct)]
    return Accuracy(percent[0], percent[4] if ranks == 5 else None)
