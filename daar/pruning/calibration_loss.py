"""How far pruning moves a network from what it was: what a policy may ask before it decides."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from daar.device.precision import strict_float32
from daar.program.inputs import Images, count, split
from daar.program.outputs import tensors
from daar.pruning.groups import ChannelGraph
from daar.pruning.masked import Masked
from daar.pruning.slim import Removed

# of what the masked and the dense network return for a batch: a number, the mean over its images
OwnLoss = Callable[[Any, Any], "Tensor | float"]


class CalibrationLoss:
    """Mean distance of a masked network's outputs to the dense network's, in strict float32.

    No labels are read: what counts is how far pruning moves the network from what it was. For logits (N, C), C at least
    2, it is the cross-entropy to the dense network's predictions. For all else, where a softmax says nothing (one
    logit, dense prediction, boxes, images), it is ‖masked − dense‖² / ‖dense‖², each over all images. The losses of
    several outputs are added. The dense outputs are made once.

    Args:
        model: the dense network, on the images' device.
        graph: its channel groups.
        images: normalised.
        batch_size: images per forward pass.
        own: a loss to take in place of these.
    """

    def __init__(
        self, model: nn.Module, graph: ChannelGraph, images: Images, batch_size: int = 256, own: OwnLoss | None = None
    ) -> None:
        self._model, self._graph, self._count, self._own = model, graph, count(images), own
        dense = Masked(model, graph, {})
        with strict_float32():
            outputs = [(part, dense(part)) for part in split(images, batch_size)]
        self._batches = [(part, _targets(output) if own is None else output) for part, output in outputs]
        lengths = [[float(values.square().sum()) for values in _floats(output)] for _, output in outputs]
        # of an output that is zero for all images, any distance counts as it is
        self._lengths = [sum(parts) or 1.0 for parts in zip(*lengths, strict=True)]

    def __call__(self, removed: Removed) -> float:
        """The loss with the given channels, group → indices, masked."""
        masked = Masked(self._model, self._graph, removed)
        with strict_float32():
            if self._own is not None:
                own = [count(x) * float(self._own(masked(x), dense)) for x, dense in self._batches]
                return sum(own) / self._count
            losses = [
                self._loss(values, dense, length)
                for x, targets in self._batches
                for values, dense, length in zip(_floats(masked(x)), targets, self._lengths, strict=True)
            ]
        return sum(losses) / self._count

    def _loss(self, values: Tensor, dense: Tensor, length: float) -> float:
        if _is_logits(dense):
            return float(F.cross_entropy(values, dense, reduction="sum"))
        return self._count * float((values - dense).square().sum()) / length


def _targets(output: Any) -> list[Tensor]:
    return [values.softmax(1) if _is_logits(values) else values for values in _floats(output)]


def _is_logits(values: Tensor) -> bool:
    return values.dim() == 2 and values.shape[1] > 1


def _floats(output: Any) -> list[Tensor]:
    """The outputs that have a distance: classes and counts have none."""
    return [values for values in tensors(output) if values.is_floating_point() and values.dim()]
