"""How far pruning moves a network from what it was: what a policy may ask before it decides."""

import torch.nn.functional as F
from torch import nn

from daar.device.precision import strict_float32
from daar.program.inputs import Images, count, split
from daar.program.outputs import tensors
from daar.pruning.groups import ChannelGraph
from daar.pruning.masked import Masked
from daar.pruning.slim import Removed


class CalibrationLoss:
    """Mean cross-entropy of a masked network to the dense network's predictions, in strict float32.

    No labels are read: what counts is how far pruning moves the network from what it was. The dense predictions are
    made once. The losses of several heads are added.

    Args:
        model: the dense network, on the images' device.
        graph: its channel groups.
        images: (N, C, H, W), normalised.
        batch_size: images per forward pass.
    """

    def __init__(self, model: nn.Module, graph: ChannelGraph, images: Images, batch_size: int = 256) -> None:
        self._model, self._graph, self._count = model, graph, count(images)
        dense = Masked(model, graph, {})
        with strict_float32():
            self._batches = [
                (part, [logits.softmax(1) for logits in tensors(dense(part))]) for part in split(images, batch_size)
            ]

    def __call__(self, removed: Removed) -> float:
        """The loss with the given channels, group → indices, masked."""
        masked = Masked(self._model, self._graph, removed)
        with strict_float32():
            losses = [
                float(F.cross_entropy(logits, dense, reduction="sum"))
                for x, heads in self._batches
                for logits, dense in zip(tensors(masked(x)), heads, strict=True)
            ]
        return sum(losses) / self._count
