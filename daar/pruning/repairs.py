"""What a proof found about a network's code that no rule can see."""

from dataclasses import dataclass, field
from typing import Any

# source of an operation, position of the tensor among what it reads and makes, its dimension
Where = tuple[str, int, int]
# class of a module and name of an integer of it, as in attributes.py → where it is the number of channels
Attributes = dict[tuple[str, str], tuple[Where, ...]]


@dataclass(frozen=True)
class Repairs:
    """Decisions that hold wherever the same line of code runs.

    Attributes:
        readings: source of an ambiguous operation → which of its readings to take, not the first.
        kept: source of an operation, of all modules or of one → why the channels that it reads stay.
        attributes: integers of modules that are numbers of channels, where they are; of several places, the channels
            go only together.
        training: whether what runs in training mode counts too.
    """

    readings: dict[str, int] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    attributes: Attributes = field(default_factory=dict)
    training: bool = False

    def __bool__(self) -> bool:
        """Whether anything was found."""
        return bool(self.readings or self.kept or self.attributes or self.training)

    def to_json(self) -> dict[str, Any]:
        """The form of `repairs` in workflow/schemas/plan.schema.yaml."""
        attributes = [
            {"class": owner, "name": name, "source": source, "tensor": tensor, "dim": dim}
            for (owner, name), places in self.attributes.items()
            for source, tensor, dim in places
        ]
        content = {"readings": self.readings, "kept": self.kept, "attributes": attributes}
        return {**content, "training": True} if self.training else content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Repairs":
        """From that form."""
        attributes: Attributes = {}
        for one in content["attributes"]:
            key = one["class"], one["name"]
            attributes[key] = (*attributes.get(key, ()), (one["source"], one["tensor"], one["dim"]))
        return cls(dict(content["readings"]), dict(content["kept"]), attributes, content.get("training", False))

    def numbers(self) -> tuple[str, ...]:
        """Where the network's code holds a number of channels, a phrase each: class, operation, file and line."""
        changed = [
            f"{owner}.{name} is the number of channels of {places[0][0]}"
            for (owner, name), places in self.attributes.items()
        ]
        return (*changed, *self.stays())

    def stays(self) -> tuple[str, ...]:
        """Operations whose channels stay, a phrase each."""
        return tuple(f"{source} {why}: the channels that it reads stay" for source, why in self.kept.items())

    def choices(self) -> tuple[str, ...]:
        """Operations that were not taken as they seemed, a phrase each."""
        return tuple(
            f"{source} can be read in several ways: not the first, but another holds" for source in self.readings
        )
