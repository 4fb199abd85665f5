"""A conv or a linear layer, as pruning sees it: what channels it reads, what channels it makes, what it costs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Channels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Layer:
    """A conv or a linear layer: a weight that sums over channels and makes new ones.

    Attributes:
        name: path of the module; where one has several weights, of the weight.
        kind: `conv`, `linear`, or `product`, of two activations.
        weight: name of the parameter; empty where it is made of several, or there is none.
        inputs: (c_in,) channel at each input position.
        outputs: (c_out,) channel at each output position.
        unit_macs: multiply-accumulates for one pair of an input and an output channel, for one image.
        groups: of a grouped conv, else 1; 0 for a depthwise conv, whose filters read one channel each, their own.
    """

    name: str
    kind: str
    weight: str
    inputs: Channels
    outputs: Channels
    unit_macs: int
    groups: int

    @property
    def is_depthwise(self) -> bool:
        """Whether each filter reads one channel, its own."""
        return self.groups == 0

    @property
    def parts(self) -> int:
        """Groups of a grouped conv that is not depthwise; else 1."""
        return self.groups or 1

    def macs(self, alive: NDArray[np.bool_]) -> int:
        """MACs for one image, given which of the network's channels are left, (count,)."""
        read = 1 if self.is_depthwise else int(alive[self.inputs].sum()) // self.parts
        return self.unit_macs * int(alive[self.outputs].sum()) * read

    def reads(self, channels: set[int]) -> bool:
        """Whether it takes any of these channels as input and makes new ones of them."""
        return not channels.isdisjoint(self.inputs.tolist())
