"""What a proof found about a network's code that no rule can see."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Repairs:
    """Decisions that hold wherever the same line of code runs.

    Attributes:
        readings: source of an ambiguous operation → which of its readings to take, not the first.
        kept: source of an operation → why the channels that it reads stay.
        attributes: class of a module and name of an integer of it that is a number of channels → source of the
            operation that reads them, position of the tensor among what it reads, its dimension.
    """

    readings: dict[str, int] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    attributes: dict[tuple[str, str], tuple[str, int, int]] = field(default_factory=dict)
