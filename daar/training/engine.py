"""The training loop: images on the device, one gather per batch, one synchronisation per epoch."""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from daar.device import distributed
from daar.device.precision import flushing_denormals, resolve, strict_float32
from daar.errors import InputError, first_line, is_out_of_memory
from daar.training import capacity, interrupts, malloc, resume
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
    Ctrl-C and SIGTERM finish the step, save and end the run. Under torchrun every process calls this with the same
    arguments; the first one writes the resume file, all of them read it.

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
    settings["processes"] = distributed.processes()  # each has statistics of its own in batch norm
    run = resume.Run(settings, resume_file, say)
    progress = run.load(model, loop.optimizer, device)
    arithmetic = strict_float32() if loop.precision == "float32" else contextlib.nullcontext()
    with (
        flushing_denormals(device),
        malloc.kept(device),
        arithmetic,
        distributed.naming_the_lost(),
        distributed.once_told(),
        interrupts.watching() as stop,
    ):
        for epoch in range(len(progress.curve), recipe.epochs):
            watch = _Watch(stop, lambda: run.save(model, loop.optimizer, progress))
            progress.add(loop.run_epoch(epoch, progress, watch), model)
            say(_line(progress.curve, recipe.epochs))
            run.save(model, loop.optimizer, progress)
            if epoch + 1 < recipe.epochs:
                watch.end_if_asked(f"epoch {epoch + 1} of {recipe.epochs}")
    return progress


class _Watch:
    """Saves within an epoch: now and then, and when a signal asks the run to end; all processes at the same step."""

    _TIME = 1  # is up: lower than the number of any signal watched

    def __init__(self, stop: interrupts.Stop, save: Callable[[], None]) -> None:
        self._stop, self._save, self._saved = stop, save, time.perf_counter()

    def is_due(self) -> bool:
        """Whether the state should be saved before the next step; every process must ask after each."""
        return self._agreed(time.perf_counter() - self._saved > SAVE_SECONDS) > 0

    def save(self, where: str) -> None:
        """Save; end the run if that was asked for."""
        self._save()
        self._saved = time.perf_counter()
        self.end_if_asked(where)

    def end_if_asked(self, where: str) -> None:
        """End the run, which has just been saved, if any process was asked to."""
        if (number := self._agreed(False)) > self._TIME:
            raise interrupts.Interrupted(signal.Signals(number).name, where)

    def _agreed(self, time_is_up: bool) -> int:
        requested = self._stop.requested
        return distributed.agree(signal.Signals[requested] if requested else self._TIME if time_is_up else 0)


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
        distributed.share_state(model.to(device))
        model.to(memory_format=torch.channels_last)
        if teacher is not None:
            teacher.to(device).to(memory_format=torch.channels_last).eval()
        self._steps = Steps(model, recipe, self.precision, device, teacher)
        self.optimizer = self._steps.optimizer
        self.batches = data.batches(recipe, seed, device)
        self.steps = self.batches.steps

    def describe(self) -> str:
        """How steps run, for the log."""
        size = min(self.recipe.batch_size, self.batches.count)
        several = f"{distributed.processes()} processes, " if distributed.processes() > 1 else ""
        return (
            f"{several}{self.device.type}, {self.precision}, {self.steps} steps of {size} images an epoch, "
            f"{self._steps.path}"
        )

    def run_epoch(self, epoch: int, progress: Progress, watch: _Watch) -> Epoch:
        """Train on every image once, or on those left after an interruption, then look at val."""
        partial = progress.partial or Partial()
        progress.partial = None
        start = time.perf_counter() - partial.seconds
        losses = torch.zeros(self.steps, device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        if distributed.is_first():  # what was saved is the sum over the processes
            losses[: partial.steps] = torch.tensor(partial.losses)
            correct += partial.correct
        for step, (loss, right) in enumerate(self.train(epoch, partial.steps), partial.steps):
            losses[step] = loss
            correct += right
            if step + 1 < self.steps and watch.is_due():
                so_far, right_so_far = self._together(losses[: step + 1], correct, epoch)
                progress.partial = Partial(tuple(so_far), right_so_far, time.perf_counter() - start)
                watch.save(f"epoch {epoch + 1}, step {step + 1} of {self.steps}")
                progress.partial = None
        per_step, right_in_all = self._together(losses, correct, epoch)  # the epoch's only synchronisation
        val = self.data.watch(self.model, self.device)
        seconds = round(time.perf_counter() - start, 3)
        lr = self._lr(epoch, self.steps - 1)
        return Epoch(
            epoch + 1, lr, sum(per_step) / self.steps, 100 * right_in_all / self.batches.count, val.top1, seconds
        )

    def _together(self, losses: Tensor, correct: Tensor, epoch: int) -> tuple[list[float], int]:
        """Of all processes: each step's loss and the number right; statistics of batch norm become their mean."""
        in_all = distributed.sum_up(losses).tolist()
        self._require_finite(in_all, epoch)
        distributed.average_statistics(self.model)
        return in_all, int(distributed.sum_up(correct))

    def train(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Train on every image once, a step at a time.

        Yields each step's loss and number right, on the device; of several processes, what this one's share adds.
        """
        self.model.train()
        for step, (images, labels) in enumerate(self.batches.epoch(epoch, first_step), first_step):
            yield self._step(images, labels, self._lr(epoch, step), len(labels) / self.batches.size(step))

    def _step(self, images: Tensor, labels: Tensor, lr: float, share: float) -> tuple[Tensor, Tensor]:
        try:
            return self._steps(images, labels, lr, share)
        except (MemoryError, RuntimeError) as error:
            # trying smaller batches would leave other processes waiting
            if not is_out_of_memory(error) or distributed.processes() > 1:
                raise
            reason = first_line(error)
        # out here the exception is gone, and the memory that it held
        raise capacity.too_large(lambda n: self._steps(images[:n], labels[:n], lr), len(labels), reason)

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
