"""A recipe: all settings of a training except the network, the data and the seed."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from daar.errors import InputError
from daar.storage.files import digest
from daar.storage.schemas import validate

SCHEDULES = ("constant", "step", "cosine")
OPTIMIZERS = ("sgd", "adamw")
PRECISIONS = ("auto", "bf16", "float32")
# settings that recipes did not always have: left out where they are at their defaults, so that older hashes hold
_LATER = ("optimizer", "betas", "ema", "mixup", "cutmix", "sparsity")


@dataclass(frozen=True)
class Recipe:
    """An optimizer, a learning-rate schedule and the rest; defaults are those of the paper suite's dense networks.

    Attributes:
        epochs: passes over the train part; 0 leaves the network as it is.
        lr: the highest learning rate.
        schedule: constant; step (× `gamma` at each milestone); cosine (to 0 at the end).
        milestones: epochs after which a step schedule multiplies the rate by `gamma`.
        gamma: that factor.
        warmup_epochs: epochs of linear rise from 0, counted as part of the schedule.
        batch_size: images per step.
        optimizer: sgd or adamw.
        momentum: of SGD.
        nesterov: whether momentum is Nesterov's.
        betas: of AdamW: of the mean of the gradients, and of the mean of their squares.
        weight_decay: on every parameter; L2 with SGD, decoupled with AdamW.
        label_smoothing: share of the target that is spread over all classes.
        distillation: weight α of the teacher's term in the loss, see daar/training/losses.py; 0 for labels alone.
        temperature: T of both softmaxes in that term.
        sparsity: λ of the penalty λ Σ|γ| on the scales of all BN layers (network slimming, Liu et al. 2017, Eq. 1).
        mixup: α of the Beta distribution by which pairs of images are mixed, see daar/training/mixing.py; 0 for none.
        cutmix: the same for rectangles cut from one image into another; with both, each batch has one of them.
        ema: decay of the exponential moving average of the weights, which is then the result; 0 for the weights
            themselves. See daar/training/averaging.py.
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
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    betas: tuple[float, ...] = (0.9, 0.999)
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    distillation: float = 0.0
    temperature: float = 4.0
    sparsity: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    padding: int = 4
    flip: bool = True
    precision: str = "auto"

    def __post_init__(self) -> None:
        # YAML and JSON give lists; a tuple keeps the recipe hashable and equal to itself
        object.__setattr__(self, "milestones", tuple(self.milestones))
        # 1 is 1.0, in hashes and to torch; older settings keep the hashes that they have
        object.__setattr__(self, "betas", tuple(map(float, self.betas)))
        for key in ("sparsity", "mixup", "cutmix", "ema"):
            object.__setattr__(self, key, float(getattr(self, key)))
        self._check_schedule()
        self._check_optimizer()
        self._check_loss()

    def _check_schedule(self) -> None:
        self._require(self.epochs >= 0, "epochs", "0 or more")
        self._require(0 < self.lr < math.inf, "lr", "above 0")
        self._require(self.schedule in SCHEDULES, "schedule", f"one of {', '.join(SCHEDULES)}")
        self._require(0 <= self.warmup_epochs <= self.epochs, "warmup_epochs", f"0 to epochs ({self.epochs})")
        self._require(list(self.milestones) == sorted(set(self.milestones)), "milestones", "rising")
        self._require(
            self.schedule == "step" or not self.milestones, "milestones", "absent, unless the schedule is step"
        )

    def _check_optimizer(self) -> None:
        self._require(self.optimizer in OPTIMIZERS, "optimizer", f"one of {', '.join(OPTIMIZERS)}")
        if self.optimizer == "sgd":
            self._require(self.momentum > 0 or not self.nesterov, "nesterov", "false where momentum is 0")
            self._require(self._is_default("betas"), "betas", "absent, unless the optimizer is adamw")
        for key in ("momentum", "nesterov") if self.optimizer != "sgd" else ():
            self._require(self._is_default(key), key, "absent, unless the optimizer is sgd")
        two = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        self._require(two, "betas", "two numbers in [0, 1)")
        self._require(self.batch_size >= 2, "batch_size", "2 or more (batch norm needs two images)")
        self._require(self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}")
        self._require(0 <= self.ema < 1, "ema", "in [0, 1)")

    def _check_loss(self) -> None:
        self._require(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)")
        self._require(0 <= self.distillation <= 1, "distillation", "in [0, 1]")
        self._require(0 < self.temperature < math.inf, "temperature", "above 0")
        # otherwise the same training could have two hashes
        self._require(
            self.distillation > 0 or self._is_default("temperature"), "temperature",
            "absent, unless distillation is above 0",
        )  # fmt: skip
        self._require(0 <= self.sparsity < math.inf, "sparsity", "0 or more")
        for key in ("mixup", "cutmix"):  # torch draws in float32
            alpha = getattr(self, key)
            self._require(alpha == 0 or 1e-6 <= alpha < math.inf, key, "0, or 0.000001 or more")

    def _is_default(self, key: str) -> bool:
        return bool(getattr(self, key) == _DEFAULTS[key])

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
        """All settings by name, including defaults; but those that came later only where they are not at theirs."""
        said = {**asdict(self), "milestones": list(self.milestones), "betas": list(self.betas)}
        return {key: value for key, value in said.items() if key not in _LATER or not self._is_default(key)}

    @property
    def hash(self) -> str:
        """Identifies the recipe in paths and records; equal settings have equal hashes, however they are spelled."""
        return digest(self.to_json())


_DEFAULTS = {field.name: field.default for field in fields(Recipe)}


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
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{where}: a value has the wrong type: {error}. See Recipe in daar/training/recipe.py."
        ) from error
    validate(content, "suite", where, "See Recipe in daar/training/recipe.py.", part="recipe")
    return recipe
