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

from daar.device import distributed, malloc
from daar.device.precision import flushing_denormals, strict_float32
from daar.device.randomness import derive
from daar.errors import InputError, first_line, is_out_of_memory
from daar.training import capacity, interrupts, precision, resume
from daar.training.batches import TrainingData
from daar.training.progress import Epoch, Partial, Progress, duration
from daar.training.recipe import Recipe
from daar.training.steps import Steps
from daar.training.trained import Trained

# a killed run loses at most this much, however long its epochs are
SAVE_SECONDS = 600
# after an epoch it saves unless that would take more than this share of the time since it saved last: a GPU does an
# epoch of small images in the time of a few saves
SAVE_SHARE = 0.02


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

    The order of the images and their augmentation follow from (seed, epoch) alone, what a network draws at random
    (dropout) from (seed, epoch, step). So a run that continues from its resume file gives what an uninterrupted one
    gives: the same bits on a CPU with the same number of threads. On
    Ctrl-C or SIGTERM it finishes the step, saves and ends. Under torchrun every process calls this with the same
    arguments; rank 0 writes the resume file, all ranks read it.

    Args:
        model: trained in place; left in channels_last memory on `device`, with the average of its weights if the
            recipe has `ema`.
        data: train images, and val images for the accuracy of each epoch.
        recipe: epochs, lr and the other settings.
        seed: fixes order and augmentation.
        device: that it trains on.
        teacher: the dense network, if the recipe distils from it; left in eval mode on `device`.
        resume_file: written after epochs and within long ones; continued from if it exists. The caller removes it
            in the end.
        identity: what else defines this run (network, base, …); the resume file of another run is refused.
        say: gets a line per epoch.

    Raises:
        InputError: the loss is not finite, the resume file is another run's, or a batch does not fit into memory.
        Interrupted: by a signal, after saving.
    """
    settings = {"seed": seed, **recipe.to_json(), **(identity or {})}
    settings["processes"] = distributed.processes()  # each has batch norm statistics of its own
    run = resume.Run(settings, resume_file, say)
    loop = Loop(model, data, recipe, seed, device, teacher, run.precision())
    say(loop.describe())
    progress = run.load(loop.trained, device)
    progress.precision = loop.precision
    arithmetic = strict_float32() if loop.precision == "float32" else contextlib.nullcontext()
    with (
        flushing_denormals(device),
        malloc.retain_freed_memory(device),
        arithmetic,
        distributed.report_lost_rank(),
        distributed.ignore_second_signal(),
        interrupts.watching() as stop,
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
    ):
        watch = _Watch(stop, lambda: run.save(loop.trained, progress))
        for epoch in range(len(progress.curve), recipe.epochs):
            progress.add(loop.run_epoch(epoch, progress, watch), loop.trained.result)
            say(_line(progress.curve, recipe.epochs))
            if epoch + 1 == recipe.epochs:
                run.save(loop.trained, progress)
            elif watch.is_due_after_epoch():
                watch.save(f"epoch {epoch + 1} of {recipe.epochs}")
    if recipe.epochs:
        loop.trained.finish()
    return progress


class _Watch:
    """Saves after epochs, within long ones, and after a signal; all processes at the same step."""

    _TIME = 1  # stands for "time to save": lower than the number of any signal watched

    def __init__(self, stop: interrupts.Stop, save: Callable[[], None]) -> None:
        self._stop, self._save, self._saved = stop, save, time.perf_counter()
        self._takes = 0.0  # seconds of a save

    def is_due(self) -> bool:
        """Whether to save before the next step; every process must ask after every step."""
        return self._agreed(time.perf_counter() - self._saved > SAVE_SECONDS) > 0

    def is_due_after_epoch(self) -> bool:
        """Whether to save between epochs; every process must ask."""
        return self._agreed(self._takes <= SAVE_SHARE * (time.perf_counter() - self._saved)) > 0

    def save(self, where: str) -> None:
        """Save; end the run if a signal came to any process."""
        start = time.perf_counter()
        self._save()
        self._saved = time.perf_counter()
        self._takes = self._saved - start
        if (number := self._agreed(False)) > self._TIME:
            raise interrupts.Interrupted(signal.Signals(number).name, where)

    def _agreed(self, time_is_up: bool) -> int:
        requested = self._stop.requested
        return distributed.all_reduce_max(signal.Signals[requested] if requested else self._TIME if time_is_up else 0)


class Loop:
    """Epochs of `fit`, and the steps within them; takes the same arguments, and the precision of one that goes on.

    Attributes:
        trained: the network, its optimizer, and the average of its weights.
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
        saved_precision: str | None = None,
    ) -> None:
        self.data, self.recipe, self.seed, self.device = data, recipe, seed, device
        self._choice = precision.choose(recipe, device, saved_precision)
        self.precision = self._choice.precision
        distributed.broadcast_state(model.to(device))
        model.to(memory_format=torch.channels_last)
        if teacher is not None:
            # takes as long to import as torch itself
            from torch.fx.experimental.optimization import fuse

            # a copy without batch norm: as exact, and one operation a layer
            teacher = fuse(teacher.to(device).eval()).to(memory_format=torch.channels_last)
        self.batches = data.batches(recipe, seed, device)
        self.steps = self.batches.steps
        self._steps = Steps(model, recipe, self.precision, device, teacher, self.batches.make)
        self.trained = Trained(model, self._steps.optimizer, recipe.ema)

    def describe(self) -> str:
        """Device, precision, batch size and how steps run: a line for the log."""
        size = min(self.recipe.batch_size, self.batches.count)
        several = f"{distributed.processes()} processes, " if distributed.processes() > 1 else ""
        return (
            f"{several}{self.device.type}, {self._choice}, {self.steps} steps of {size} images an epoch, "
            f"{self._steps.path}"
        )

    def run_epoch(self, epoch: int, progress: Progress, watch: _Watch) -> Epoch:
        """Train on every image once, or on those left after an interruption; then measure accuracy on val."""
        partial = progress.partial or Partial()
        progress.partial = None
        start = time.perf_counter() - partial.seconds
        losses = torch.zeros(self.steps, device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        if distributed.is_first():  # the saved values are sums over the processes
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
        val = self.data.watch(self.trained.result, self.device)
        seconds = round(time.perf_counter() - start, 3)
        lr = self._lr(epoch, self.steps - 1)
        return Epoch(
            epoch + 1, lr, sum(per_step) / self.steps, 100 * right_in_all / self.batches.count, val.top1, seconds
        )

    def _together(self, losses: Tensor, correct: Tensor, epoch: int) -> tuple[list[float], int]:
        """Sum each step's loss and the number right over the processes; average batch norm's running statistics."""
        in_all = distributed.all_reduce_sum(losses).tolist()
        self._require_finite(in_all, epoch)
        for model in self.trained.models:
            distributed.average_statistics(model)
        return in_all, int(distributed.all_reduce_sum(correct))

    def train(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Train on every image once, a step at a time.

        Yields each step's loss and number right, on the device; with several processes, of this one's share.
        """
        self.trained.model.train()
        for step, drawn in enumerate(self.batches.epoch(epoch, first_step), first_step):
            torch.manual_seed(derive("step", self.seed, epoch, step, distributed.rank()))
            result = self._step(drawn, self._lr(epoch, step), len(drawn[0]) / self.batches.size(step))
            self.trained.add_step()
            yield result

    def _step(self, drawn: tuple[Tensor, ...], lr: float, share: float) -> tuple[Tensor, Tensor]:
        try:
            return self._steps(drawn, lr, share)
        except (MemoryError, RuntimeError) as error:
            # trying smaller batches would leave other processes waiting
            if not is_out_of_memory(error) or distributed.processes() > 1:
                raise
            reason = first_line(error)
        # behind the handler: the exception is gone here, and with it the memory that its traceback keeps
        raise capacity.too_large(lambda n: self._steps(tuple(part[:n] for part in drawn), lr), len(drawn[0]), reason)

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
    """An epoch as a line of the log, with the time left at the mean pace so far."""
    e = curve[-1]
    left = sum(row.seconds for row in curve) / len(curve) * (epochs - e.epoch)
    return (
        f"epoch {e.epoch}/{epochs}  lr {e.lr:.4f}  loss {e.loss:.4f}  train {e.train_top1:.2f}  val {e.val_top1:.2f}  "
        f"{e.seconds:.1f} s  ETA {duration(left)}"
    )
