"""How far a training has come: the curve and the best state so far; and durations for reading."""

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

State = dict[str, Tensor]


@dataclass(frozen=True)
class Epoch:
    """One line of the curve: mean loss and percent correct on the augmented train images, percent on val."""

    epoch: int
    lr: float
    loss: float
    train_top1: float
    val_top1: float
    seconds: float


@dataclass(frozen=True)
class Partial:
    """The part of an interrupted epoch that is done.

    Attributes:
        losses: one for each step done.
        correct: images classified correctly so far.
        seconds: taken so far.
    """

    losses: tuple[float, ...] = ()
    correct: int = 0
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        """How many steps are done."""
        return len(self.losses)


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        curve: the epochs done.
        partial: the part of the next epoch that is done, or None.
        best: state after the epoch with the highest val accuracy (the first of equals), on the CPU.
        best_epoch: number of that epoch, from 1; 0 before the first.
        precision: bf16 or float32; empty until it is chosen.
    """

    curve: list[Epoch] = field(default_factory=list)
    partial: Partial | None = None
    best: State = field(default_factory=dict)
    best_epoch: int = 0
    precision: str = ""

    def add(self, epoch: Epoch, model: nn.Module) -> None:
        """Append an epoch; keep the model's state if it is the best on val so far."""
        self.curve.append(epoch)
        if not self.best_epoch or epoch.val_top1 > self.curve[self.best_epoch - 1].val_top1:
            self.best_epoch, self.best = epoch.epoch, state_of(model)


def state_of(model: nn.Module) -> State:
    """A copy of a model's state dict: contiguous, on the CPU."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in model.state_dict().items()}


def duration(seconds: float) -> str:
    """Seconds for reading: "42 s", "3 min 20 s", "5 h 12 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def curve_to_json(curve: list[Epoch]) -> list[dict[str, Any]]:
    """The curve as records of numbers."""
    return [asdict(epoch) for epoch in curve]
