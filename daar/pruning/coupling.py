"""Which parameters belong to a channel: all that is cut with it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from daar.pruning.groups import ChannelGraph, Channels


def coupled(model: nn.Module, graph: ChannelGraph, layers: Sequence[str]) -> dict[str, list[Tensor]]:
    """The slices of all parameters that go with each channel of a layer.

    Args:
        model: the network.
        graph: its channels.
        layers: names of convs.

    Returns:
        layer → for each parameter and dimension that holds its channels, (c_out, size of a slice), float32, on the CPU.
    """
    found: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    for name, parameter in model.named_parameters():
        values = parameter.detach().to("cpu", torch.float32)
        for dim, labels in enumerate(graph.leaves.get(name, ())):
            if labels is None:
                continue
            for layer in layers:
                places = _places(labels, graph.layers[layer].outputs)
                if places is not None:
                    found[layer].append(_slices(values.movedim(dim, 0), places))
    return found


def _places(labels: Channels, outputs: Channels) -> list[np.ndarray] | None:
    """Where each output channel lies among the labels, (R,) each, as often; None where one is not there."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], outputs, side="left")
    ends = np.searchsorted(labels[order], outputs, side="right")
    if (starts == ends).all():
        return None
    return [order[start:end] for start, end in zip(starts, ends, strict=True)]


def _slices(values: Tensor, places: list[np.ndarray]) -> Tensor:
    """(size, …) to (c_out, R · size of a slice); a channel that is there less often has zeros."""
    rows = [values[torch.from_numpy(np.sort(at))].flatten() for at in places]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
