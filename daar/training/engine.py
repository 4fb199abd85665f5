"""The training loop: images on the device, one gather per batch, one synchronisation per epoch."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daar.data.augmentation import ImageStore, draw
from daar.data.packed import Pack
from daar.errors import InputError
from daar.measure.accuracy import evaluate
from daar.modes import flushing_denormals, resolve, strict_float32
from daar.training import resume
from daar.training.progress import Epoch, Progress, duration
from daar.training.recipe import Recipe


@dataclass(frozen=True)
class Data:
    """What a network is trained on and watched on, with the normalisation it is fed with."""

    train: Pack
    val: Pack
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool


def fit(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    *,
    resume_file: Path | None = None,
    identity: dict[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> Progress:
    """Train a network in place.

    Which image comes when and how it is augmented follows from (seed, epoch) alone, so a run that is continued from
    its resume file does exactly what the undisturbed one does; bit for bit on a CPU with the same number of threads.

    Args:
        model: trained in place; left in channels_last memory on `device`.
        data: train and val part.
        recipe: epochs, lr and so on.
        seed: fixes order and augmentation.
        device: where to train.
        resume_file: saved after each epoch and continued from if it is there; the caller removes it in the end.
        identity: whatever else defines this run (network, base, …); another run's resume file is refused.
        say: gets a line per epoch.

    Raises:
        InputError: the loss is not finite, or the resume file is another run's.
    """
    loop = Loop(model, data, recipe, seed, device)
    settings = {"seed": seed, "precision": loop.precision, **recipe.to_json(), **(identity or {})}
    run = resume.Run(settings, resume_file, say)
    progress = run.load(model, loop.optimizer, device)
    arithmetic = strict_float32() if loop.precision == "float32" else contextlib.nullcontext()
    with flushing_denormals(device), arithmetic:
        for epoch in range(len(progress.curve), recipe.epochs):
            progress.add(loop.run_epoch(epoch), model)
            say(_line(progress.curve, recipe.epochs))
            run.save(model, loop.optimizer, progress)
    return progress


class Loop:
    """What `fit` repeats: epochs, and the steps within them. Arguments as there.

    Attributes:
        optimizer: of the model's parameters.
        precision: bf16 or float32.
        steps: per epoch.
    """

    def __init__(self, model: nn.Module, data: Data, recipe: Recipe, seed: int, device: torch.device) -> None:
        self.model, self.data, self.recipe, self.seed, self.device = model, data, recipe, seed, device
        self.precision = resolve(recipe.precision, device)
        model.to(device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=device.type in ("cpu", "cuda"),
        )
        self.store = ImageStore(data.train.images, recipe.padding, data.mean, data.std, device)
        self.labels = data.train.labels.to(device)
        count = len(self.labels)
        self.steps = math.ceil(count / recipe.batch_size)
        if count % recipe.batch_size == 1 and self.steps > 1:
            self.steps -= 1  # batch norm cannot be trained on a single image; another one is left out each epoch
        if count < 2:
            raise InputError(f"training needs two images or more, got {count}. Check the dataset.")

    def run_epoch(self, epoch: int) -> Epoch:
        """Train on every image once, then look at val."""
        start = time.perf_counter()
        losses = torch.zeros(self.steps, device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        for step, (loss, right) in enumerate(self.train(epoch)):
            losses[step] = loss
            correct += right
        per_step = losses.tolist()  # the epoch's only synchronisation
        lr = self._lr(epoch, self.steps - 1)
        self._require_finite(per_step, epoch, lr)
        seen = min(self.steps * self.recipe.batch_size, len(self.labels))
        val = evaluate(self.model, self.data.val, self.data.mean, self.data.std, self.device)
        seconds = time.perf_counter() - start
        return Epoch(epoch + 1, lr, sum(per_step) / self.steps, 100 * int(correct) / seen, val.top1, round(seconds, 3))

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Train on every image once, a step at a time; yields each step's loss and number right, on the device."""
        self.model.train()
        plan = draw(
            len(self.labels), self.recipe.padding, self.recipe.flip and self.data.flip, self.seed, epoch, self.device
        )
        for step in range(self.steps):
            first, last = step * self.recipe.batch_size, min((step + 1) * self.recipe.batch_size, len(self.labels))
            labels = self.labels[plan.order[first:last]]
            yield self._step(self.store.batch(plan, first, last), labels, self._lr(epoch, step))

    def _lr(self, epoch: int, step: int) -> float:
        return self.recipe.lr_at(epoch + step / self.steps)

    def _step(self, images: Tensor, labels: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits = self.model(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    def _require_finite(self, losses: list[float], epoch: int, lr: float) -> None:
        for step, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise InputError(
                    f"the loss is {loss} at epoch {epoch + 1}, step {step + 1} of {self.steps}, lr {lr:.4g}. "
                    "Lower lr in the recipe, or add warmup_epochs."
                )


def _line(curve: list[Epoch], epochs: int) -> str:
    """An epoch as a line of the log, with the time that is left at the mean pace so far."""
    e = curve[-1]
    left = sum(row.seconds for row in curve) / len(curve) * (epochs - e.epoch)
    return (
        f"epoch {e.epoch}/{epochs}  lr {e.lr:.4f}  loss {e.loss:.4f}  train {e.train_top1:.2f}  val {e.val_top1:.2f}  "
        f"{e.seconds:.1f} s  ETA {duration(left)}"
    )
