"""What pruning means, by hooks on the dense network as it is written: nothing of daar.program or of labels is used.

A test says by hand where the filters of a conv come to lie in front of each layer that reads them. There they are
zeroed, behind whatever norm or activation made something of them, and the slim network has to compute the same.
"""

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from daar.pruning.groups import ChannelGraph, Group

Removed = dict[str, list[int]]
# reader → for each of its inputs the conv and the filter that it reads, or None for what is no filter
Reads = Mapping[str, Sequence[tuple[str, int] | None]]


def filters_of(conv: str, order: Sequence[int], times: int = 1) -> list[tuple[str, int] | None]:
    """The filters of one conv in this order, each so many times in a row, as a flatten repeats them."""
    return [(conv, filter_) for filter_ in order for _ in range(times)]


def filters_gone(graph: ChannelGraph, removed: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Conv → indices of the filters that go, from group → indices of the channels that go."""
    gone = {}
    for group in (*graph.groups, *getattr(graph, "units", ())):
        indices = set(removed.get(group.name, []))
        for member in group.members:
            gone[member] = [i for i, index in enumerate(group.positions[member].tolist()) if index in indices]
    return gone


def masked(model: nn.Module, images: Any, gone: Mapping[str, list[int]], reads: Reads) -> list[Tensor]:
    """Outputs of the dense network in float64 with filters zeroed where layers read them.

    Args:
        model: the dense network; left as it is.
        images: a tensor, or a tuple of several.
        gone: conv → its filters that go.
        reads: what each layer reads.
    """
    dense = copy.deepcopy(model).double().eval()
    called: set[str] = set()
    for reader, inputs in reads.items():
        zeros = [place for place, read in enumerate(inputs) if read is not None and read[1] in gone.get(read[0], [])]
        module = dense.get_submodule(reader)
        dim = -1 if isinstance(module, nn.Linear) else 1

        def zero(
            _: nn.Module, args: Any, kwargs: Any, dim: int = dim, zeros: list[int] = zeros, width: int = len(inputs),
            reader: str = reader,
        ) -> Any:  # fmt: skip
            x: Tensor = next(iter(args or tuple(kwargs.values())))
            assert x.shape[dim] == width, f"{reader} reads {x.shape[dim]} channels, the test says {width}"
            called.add(reader)
            return (x.index_fill(dim, torch.tensor(zeros, dtype=torch.int64), 0.0),), {}

        module.register_forward_pre_hook(zero, with_kwargs=True)
    found = outputs(dense, images)
    assert called == set(reads), f"never called: {set(reads) - called}"
    return found


def outputs(model: nn.Module, images: Any) -> list[Tensor]:
    """All tensors that a network returns in float64 and eval mode."""
    network = copy.deepcopy(model).double().eval()
    several = images if isinstance(images, tuple) else (images,)
    with torch.no_grad():
        return list(_tensors(network(*(image.double() for image in several))))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def apart(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Largest difference relative to the largest of `other`, over all outputs."""
    pairs = list(zip(one, other, strict=True))
    assert all(a.shape == b.shape for a, b in pairs)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def drawn(graph: ChannelGraph, seed: int, scope: str = "all") -> Removed:
    """Random channels of every group, as many as each member can spare: at random, not the first or the last."""
    dice = random.Random(seed)
    return {group.name: _drawn(group, dice) for group in graph.in_scope(scope)}


def _drawn(group: Group, dice: random.Random) -> list[int]:
    parts = [set(positions.tolist()) for positions in group.positions.values()]
    gone: set[int] = set()
    for index in dice.sample(range(group.size), group.size):
        if index not in group.fixed and all(len(part - gone - {index}) >= min(2, len(part)) for part in parts):
            gone.add(index)
    wanted = dice.randint(1, len(gone)) if gone else 0
    return sorted(dice.sample(sorted(gone), wanted))
