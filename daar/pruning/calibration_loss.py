"""How far pruning moves a network from what it was: what a policy may ask before it decides."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daar.device.precision import strict_float32
from daar.program.inputs import Images, count, split, usable
from daar.program.outputs import tensors
from daar.program.replay import Replay
from daar.pruning.groups import ChannelGraph
from daar.pruning.masked import Masked
from daar.pruning.masked_suffix import MaskedSuffix, can_start_within
from daar.pruning.slim import Removed

# of what the masked and the dense network return for a batch: a number, the mean over its images
OwnLoss = Callable[[Any, Any], "Tensor | float"]
# images per pass; what a pass holds stays in a CPU's cache
_AT_ONCE = 32


class CalibrationLoss:
    """Mean distance of a masked network's outputs to the dense network's, in strict float32.

    No labels are read: what counts is how far pruning moves the network from what it was. For logits (N, C), C at least
    2, it is the cross-entropy to the dense network's predictions. For all else, where a softmax says nothing (one
    logit, dense prediction, boxes, images), it is ‖masked − dense‖² / ‖dense‖², each over all images. The losses of
    several outputs are added. The dense outputs are made once; a masked network starts from what the dense one holds
    before the first masked layer, as far as memory allows.

    Args:
        model: the dense network, on the images' device.
        graph: its channel groups.
        images: normalised.
        batch_size: images whose losses are added at once; passes are of fewer where that is the same.
        own: a loss to take in place of these.
    """

    def __init__(
        self, model: nn.Module, graph: ChannelGraph, images: Images, batch_size: int = 256, own: OwnLoss | None = None
    ) -> None:
        self._model, self._graph, self._count, self._own = model, graph, count(images), own
        self._parts = list(split(usable(images), batch_size))
        self._suffix = self._from_first_mask() if own is None else None  # its outputs have no structure of their own
        outputs = list(self._masked({}))
        self._targets = [_targets(output) if own is None else output for output in outputs]
        lengths = [[float(values.square().sum()) for values in _floats(output)] for output in outputs]
        # of an output that is zero for all images, any distance counts as it is
        self._lengths = [sum(parts) or 1.0 for parts in zip(*lengths, strict=True)]

    def __call__(self, removed: Removed) -> float:
        """The loss with the given channels, group → indices, masked."""
        with strict_float32():
            masked = zip(self._parts, self._masked(removed), self._targets, strict=True)
            if self._own is not None:
                return sum(count(x) * float(self._own(output, dense)) for x, output, dense in masked) / self._count
            losses = [
                self._loss(values, target, length)
                for _, output, targets in masked
                for values, target, length in zip(_floats(output), targets, self._lengths, strict=True)
            ]
        return sum(losses) / self._count

    def _from_first_mask(self) -> MaskedSuffix | None:
        replay = Replay(self._model, self._parts[0])
        if not can_start_within(replay, self._graph):
            return None
        passes = [some for part in self._parts for some in split(part, _AT_ONCE)]
        return MaskedSuffix(self._model, self._graph, passes, replay)

    def _masked(self, removed: Removed) -> Iterator[Any]:
        """What the masked network returns for each batch."""
        if self._suffix is not None:
            outputs = self._suffix(removed)
            for part in self._parts:
                yield _joined(list(itertools.islice(outputs, -(-count(part) // _AT_ONCE))))
            return
        masked = Masked(self._model, self._graph, removed)
        for part in self._parts:
            with strict_float32():
                output = masked(part)
            yield output

    def _loss(self, values: Tensor, dense: Tensor, length: float) -> float:
        if _is_logits(dense):
            return float(F.cross_entropy(values, dense, reduction="sum"))
        return self._count * float((values - dense).square().sum()) / length


def _joined(outputs: list[Any]) -> list[Tensor]:
    """Outputs of several passes as of one: torch computes each image by itself, to the bit."""
    return [torch.cat(several) for several in zip(*map(tensors, outputs), strict=True)]


def _targets(output: Any) -> list[Tensor]:
    return [values.softmax(1) if _is_logits(values) else values for values in _floats(output)]


def _is_logits(values: Tensor) -> bool:
    return values.dim() == 2 and values.shape[1] > 1


def _floats(output: Any) -> list[Tensor]:
    """The outputs that have a distance: classes and counts have none."""
    return [values for values in tensors(output) if values.is_floating_point() and values.dim()]
