"""A recipe: all settings of a training except the network, the data and the seed."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from daar.errors import InputError
from daar.storage.files import digest
from daar.storage.schemas import validate

SCHEDULES = ("constant", "step", "cosine")
PRECISIONS = ("auto", "bf16", "float32")


@dataclass(frozen=True)
class Recipe:
    """SGD with momentum and a learning-rate schedule; defaults are those of the paper suite's dense networks.

    Attributes:
        epochs: passes over the train part; 0 leaves the network as it is.
        lr: the highest learning rate.
        schedule: constant; step (× `gamma` at each milestone); cosine (to 0 at the end).
        milestones: epochs after which a step schedule multiplies the rate by `gamma`.
        gamma: that factor.
        warmup_epochs: epochs of linear rise from 0, counted as part of the schedule.
        batch_size: images per step.
        momentum: of SGD.
        nesterov: whether momentum is Nesterov's.
        weight_decay: L2, on every parameter.
        label_smoothing: share of the target that is spread over all classes.
        distillation: weight α of the teacher's term in the loss, see daar/training/losses.py; 0 for labels alone.
        temperature: T of both softmaxes in that term.
        padding: pixels of zero padding on each side for the random crop; 0 for none.
        flip: whether to mirror at random, where the dataset allows it.
        precision: auto (what trains faster here, daar/training/precision.py), bf16, or strict float32
            (no TF32).
    """

    epochs: int = 200
    lr: float = 0.1
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup_epochs: float = 0
    batch_size: int = 128
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    distillation: float = 0.0
    temperature: float = 4.0
    padding: int = 4
    flip: bool = True
    precision: str = "auto"

    def __post_init__(self) -> None:
        # YAML and JSON give lists; a tuple keeps the recipe hashable and equal to itself
        object.__setattr__(self, "milestones", tuple(self.milestones))
        self._require(self.epochs >= 0, "epochs", "0 or more")
        self._require(0 < self.lr < math.inf, "lr", "above 0")
        self._require(self.schedule in SCHEDULES, "schedule", f"one of {', '.join(SCHEDULES)}")
        self._require(self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}")
        self._require(0 <= self.warmup_epochs <= self.epochs, "warmup_epochs", f"0 to epochs ({self.epochs})")
        self._require(self.batch_size >= 2, "batch_size", "2 or more (batch norm needs two images)")
        self._require(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)")
        self._require(0 <= self.distillation <= 1, "distillation", "in [0, 1]")
        self._require(0 < self.temperature < math.inf, "temperature", "above 0")
        # otherwise the same training could have two hashes
        self._require(
            self.distillation > 0 or self.temperature == Recipe.temperature,
            "temperature",
            "absent, unless distillation is above 0",
        )
        self._require(list(self.milestones) == sorted(set(self.milestones)), "milestones", "rising")
        self._require(
            self.schedule == "step" or not self.milestones, "milestones", "absent, unless the schedule is step"
        )
        self._require(self.momentum > 0 or not self.nesterov, "nesterov", "false where momentum is 0")

    def _require(self, holds: bool, key: str, allowed: str) -> None:
        if not holds:
            raise InputError(f"{key} is {getattr(self, key)!r}; it must be {allowed}. Edit the recipe.")

    def lr_at(self, progress: float) -> float:
        """Learning rate after `progress` epochs, 0 to `epochs`, fractions included."""
        if progress < self.warmup_epochs:
            return self.lr * progress / self.warmup_epochs
        if self.schedule == "step":
            return self.lr * self.gamma ** sum(progress >= milestone for milestone in self.milestones)
        if self.schedule == "cosine":
            span = self.epochs - self.warmup_epochs
            return self.lr * (1 + math.cos(math.pi * (progress - self.warmup_epochs) / span)) / 2
        return self.lr

    def to_json(self) -> dict[str, Any]:
        """All settings by name, including defaults."""
        return {**asdict(self), "milestones": list(self.milestones)}

    @property
    def hash(self) -> str:
        """Identifies the recipe in paths and records; equal settings have equal hashes, however they are spelled."""
        return digest(self.to_json())


def from_json(content: dict[str, Any], where: str) -> Recipe:
    """A recipe from a mapping of its settings.

    Raises:
        InputError: a key is unknown or a value out of range.
    """
    known = Recipe.__dataclass_fields__
    for key in content:
        if key not in known:
            raise InputError(f"{where}: unknown key {key!r}; a recipe has: {', '.join(known)}.")
    try:
        recipe = Recipe(**content)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except TypeError as error:
        raise InputError(
            f"{where}: a value has the wrong type: {error}. See Recipe in daar/training/recipe.py."
        ) from error
    validate(content, "suite", where, "See Recipe in daar/training/recipe.py.", part="recipe")
    return recipe
