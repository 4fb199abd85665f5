"""What the rules share: the labels of all tensors of one run, and what they find out."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

from daar.program.program import Operation, Program, Ref
from daar.pruning.identities import Identities, Labels
from daar.pruning.repairs import Repairs

# for each dimension of a tensor its labels, or None where its positions are no channels
Dims = list[Labels | None]
# gives the labels of each tensor that an operation makes; None where it does not know
Rule = Callable[["Run", Operation], "list[Dims] | None"]
# why channels stay where the network's code says how many there are
WRITTEN = "a number of channels is written in the code"


@dataclass(frozen=True, eq=False)
class Read:
    """An operation sums over channels: without some of them it computes what it does with zeros in their place.

    Attributes:
        operation: its index.
        tensor: number of the argument that is read.
        dim: of that, never negative.
        labels: along it.
    """

    operation: int
    tensor: int
    dim: int
    labels: Labels


@dataclass(frozen=True, eq=False)
class Call:
    """A conv or a matrix product with a weight, as it ran.

    Attributes:
        operation: that ran.
        kind: `conv`, `linear`, or `product` of two activations.
        weight: number of the weight; -1 of a product.
        inputs: labels of what it reads.
        outputs: labels of what it makes.
        unit_macs: multiply-accumulates for one image and one pair of an input and an output channel.
        groups: of a grouped conv; 0 for a depthwise one, whose filters read one channel each.
    """

    operation: Operation
    kind: str
    weight: int
    inputs: Labels
    outputs: Labels
    unit_macs: int
    groups: int


@dataclass(frozen=True, eq=False)
class Attribute:
    """A module holds a number of channels as an integer.

    Attributes:
        module: its path.
        name: of the attribute.
        labels: the channels.
    """

    module: str
    name: str
    labels: Labels


@dataclass(eq=False)
class Run:
    """The labels of one run so far.

    Attributes:
        program: what ran.
        repairs: what a proof found that no rule can see.
        ids: what is known of the identities.
        labels: number of a tensor → its labels.
        activations: numbers of the tensors that depend on the network's input.
        joined: labels that reach an addition or a concatenation.
        reads: in order.
        calls: in order.
        values: number of an index map → labels of the channels that it gives the numbers of.
        transposed: number of a tensor → number of the leaf that it is the transpose of.
        attributes: what modules hold numbers of channels as.
        numbers: what holds an integer that is a number of channels, and its name there → their labels.
        ambiguous: index of an operation that may be read in several ways → how many.
    """

    program: Program
    repairs: Repairs = field(default_factory=Repairs)
    ids: Identities = field(default_factory=Identities)
    labels: dict[int, Dims] = field(default_factory=dict)
    activations: set[int] = field(default_factory=set)
    joined: list[Labels] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    values: dict[int, Labels] = field(default_factory=dict)
    transposed: dict[int, int] = field(default_factory=dict)
    attributes: list[Attribute] = field(default_factory=list)
    numbers: dict[tuple[int, str], Labels] = field(default_factory=dict)
    ambiguous: dict[int, int] = field(default_factory=dict)

    @functools.cached_property
    def readers(self) -> dict[int, list[Operation]]:
        """Number of a tensor → the operations that read it."""
        found: dict[int, list[Operation]] = {}
        for operation in self.program.operations:
            for number in operation.reads():
                found.setdefault(number, []).append(operation)
        return found

    def of(self, ref: Ref) -> Dims:
        """A tensor's labels."""
        return self.labels[ref.number]

    def shape(self, ref: Ref) -> tuple[int, ...]:
        """A tensor's shape."""
        return self.program.shapes[ref.number]

    def read(self, operation: Operation, ref: Ref, dim: int) -> None:
        """Note that an operation sums over a dimension of an argument."""
        labels = self.of(ref)[dim]
        if labels is not None:
            self.reads.append(Read(operation.index, ref.number, dim, labels))

    def reading(self, operation: Operation, count: int) -> int:
        """Which of an operation's `count` readings to take, from 0 on; `count` itself means none, which freezes."""
        self.ambiguous[operation.index] = count
        return min(self.repairs.readings.get(operation.source, 0), count)

    def attribute(self, operation: Operation, name: str, labels: Labels) -> None:
        """Note that the module of an operation holds a number of channels, if it does."""
        self.attributes.append(Attribute(operation.module, name, labels))

    def keep(self, labels: Labels | None, operation: Operation, why: str) -> None:
        """Have channels stay, because of an operation."""
        self.ids.freeze(labels, f"{why}: {operation.place()}")

    def agree(self, one: Labels | None, other: Labels | None, operation: Operation) -> Labels | None:
        """Two dimensions that are met position by position: they can only go together, or stay."""
        if one is None or other is None:
            self.keep(one if other is None else other, operation, "channels meet what has none")
            return None
        self.ids.unify(one, other)
        return one
