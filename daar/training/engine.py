"""The training loop: images on the device, one gather per batch, one synchronisation per epoch."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from daar.errors import InputError
from daar.modes import flushing_denormals, resolve, strict_float32
from daar.training import interrupts, resume
from daar.training.batches import TrainingData
from daar.training.progress import Epoch, Partial, Progress, duration
from daar.training.recipe import Recipe
from daar.training.steps import Steps

# a killed run loses at most so many seconds, however long its epochs are
SAVE_SECONDS = 600


def fit(
    model: nn.Module,
    data: TrainingData,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    *,
    teacher: nn.Module | None = None,
    resume_file: Path | None = None,
    identity: dict[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> Progress:
    """Train a network in place.

    Which image comes when and how it is augmented follows from (seed, epoch) alone, so a run that is continued from
    its resume file does exactly what the undisturbed one does; bit for bit on a CPU with the same number of threads.
    Ctrl-C and SIGTERM finish the step, save and end the run.

    Args:
        model: trained in place; left in channels_last memory on `device`.
        data: what it is trained and watched on.
        recipe: epochs, lr and so on.
        seed: fixes order and augmentation.
        device: where to train.
        teacher: the dense network, where the recipe distils from it; left in eval mode on `device`.
        resume_file: saved after each epoch, and within long ones, and continued from if it is there; the caller removes
            it in the end.
        identity: whatever else defines this run (network, base, …); another run's resume file is refused.
        say: gets a line per epoch.

    Raises:
        InputError: the loss is not finite, the resume file is another run's, or a batch does not fit into memory.
        Interrupted: by a signal, after saving.
    """
    loop = Loop(model, data, recipe, seed, device, teacher)
    say(loop.describe())
    settings = {"seed": seed, "precision": loop.precision, **recipe.to_json(), **(identity or {})}
    run = resume.Run(settings, resume_file, say)
    progress = run.load(model, loop.optimizer, device)
    arithmetic = strict_float32() if loop.precision == "float32" else contextlib.nullcontext()
    with flushing_denormals(device), arithmetic, interrupts.watching() as stop:
        for epoch in range(len(progress.curve), recipe.epochs):
            watch = _Watch(stop, lambda: run.save(model, loop.optimizer, progress))
            progress.add(loop.run_epoch(epoch, progress, watch), model)
            say(_line(progress.curve, recipe.epochs))
            run.save(model, loop.optimizer, progress)
            if stop.requested and epoch + 1 < recipe.epochs:
                raise interrupts.Interrupted(stop.requested, f"epoch {epoch + 1} of {recipe.epochs}")
    return progress


class _Watch:
    """Saves within an epoch: now and then, and when a signal asks the run to end."""

    def __init__(self, stop: Any, save: Callable[[], None]) -> None:
        self._stop, self._save, self._saved = stop, save, time.perf_counter()

    @property
    def is_due(self) -> bool:
        """Whether the state should be saved before the next step."""
        return bool(self._stop.requested) or time.perf_counter() - self._saved > SAVE_SECONDS

    def save(self, where: str) -> None:
        """Save; end the run if that was asked for."""
        self._save()
        self._saved = time.perf_counter()
        if self._stop.requested:
            raise interrupts.Interrupted(self._stop.requested, where)


class Loop:
    """What `fit` repeats: epochs, and the steps within them. Arguments as there.

    Attributes:
        optimizer: of the model's parameters.
        precision: bf16 or float32.
        steps: per epoch.
    """

    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        teacher: nn.Module | None = None,
    ) -> None:
        self.model, self.data, self.recipe, self.device = model, data, recipe, device
        self.precision = resolve(recipe.precision, device)
        model.to(device).to(memory_format=torch.channels_last)
        if teacher is not None:
            teacher.to(device).to(memory_format=torch.channels_last).eval()
        self._steps = Steps(model, recipe, self.precision, device, teacher)
        self.optimizer = self._steps.optimizer
        self.batches = data.batches(recipe, seed, device)
        self.steps = self.batches.steps

    def describe(self) -> str:
        """How steps run, for the log."""
        size = min(self.recipe.batch_size, self.batches.count)
        return f"{self.device.type}, {self.precision}, {self.steps} steps of {size} images an epoch, {self._steps.path}"

    def run_epoch(self, epoch: int, progress: Progress, watch: _Watch) -> Epoch:
        """Train on every image once, or on those left after an interruption, then look at val."""
        partial = progress.partial or Partial()
        progress.partial = None
        start = time.perf_counter() - partial.seconds
        losses = torch.zeros(self.steps, device=self.device)
        losses[: partial.steps] = torch.tensor(partial.losses)
        correct = torch.tensor(partial.correct, device=self.device)
        for step, (loss, right) in enumerate(self.train(epoch, partial.steps), partial.steps):
            losses[step] = loss
            correct += right
            if step + 1 < self.steps and watch.is_due:
                so_far = losses[: step + 1].tolist()
                self._require_finite(so_far, epoch)
                progress.partial = Partial(tuple(so_far), int(correct), time.perf_counter() - start)
                watch.save(f"epoch {epoch + 1}, step {step + 1} of {self.steps}")
                progress.partial = None
        per_step = losses.tolist()  # the epoch's only synchronisation
        self._require_finite(per_step, epoch)
        val = self.data.watch(self.model, self.device, self.precision)
        seconds = round(time.perf_counter() - start, 3)
        lr = self._lr(epoch, self.steps - 1)
        return Epoch(
            epoch + 1, lr, sum(per_step) / self.steps, 100 * int(correct) / self.batches.count, val.top1, seconds
        )

    def train(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Train on every image once, a step at a time; yields each step's loss and number right, on the device."""
        self.model.train()
        for step, (images, labels) in enumerate(self.batches.epoch(epoch, first_step), first_step):
            yield self._steps(images, labels, self._lr(epoch, step))

    def _lr(self, epoch: int, step: int) -> float:
        return self.recipe.lr_at(epoch + step / self.steps)

    def _require_finite(self, losses: list[float], epoch: int) -> None:
        for step, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise InputError(
                    f"the loss is {loss} at epoch {epoch + 1}, step {step + 1} of {self.steps}, lr "
                    f"{self._lr(epoch, step):.4g}. Lower lr in the recipe, or add warmup_epochs."
                )


def _line(curve: list[Epoch], epochs: int) -> str:
    """An epoch as a line of the log, with the time that is left at the mean pace so far."""
    e = curve[-1]
    left = sum(row.seconds for row in curve) / len(curve) * (epochs - e.epoch)
    return (
        f"epoch {e.epoch}/{epochs}  lr {e.lr:.4f}  loss {e.loss:.4f}  train {e.train_top1:.2f}  val {e.val_top1:.2f}  "
        f"{e.seconds:.1f} s  ETA {duration(left)}"
    )
