"""Which parameters belong to a channel: all that is cut with it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from daar.pruning.groups import ChannelGraph
from daar.pruning.layer import Channels


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
                places = places_of(graph.layers[layer].outputs, labels)
                if places is not None:
                    found[layer].append(_slices(values.movedim(dim, 0), places))
    return found


def places_of(channels: Channels, labels: Channels) -> list[Channels] | None:
    """Where each of the channels lies among labels, none or several places each, rising; None if none is there."""
    order = np.argsort(labels, kind="stable")
    starts, ends = (np.searchsorted(labels[order], channels, side=side) for side in ("left", "right"))
    if (starts == ends).all():
        return None
    return [order[start:end] for start, end in zip(starts, ends, strict=True)]


def _slices(values: Tensor, places: list[Channels]) -> Tensor:
    """(size, …) to (c_out, R · size of a slice); a channel that is there less often has zeros."""
    rows = [values[torch.from_numpy(at)].flatten() for at in places]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
