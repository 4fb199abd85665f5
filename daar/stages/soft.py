"""The soft schedule: filters are zeroed after every epoch of training, and may grow again; slimmed at the end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from daar.checkpoint import checkpoint
from daar.checkpoint.checkpoint import Description
from daar.measure.accuracy import Accuracy
from daar.program.recording import held_as
from daar.pruning import plan as plans
from daar.pruning.groups import ChannelGraph, graph_of
from daar.pruning.plan import Plan
from daar.pruning.proof import CHECKED_IMAGES, slim_error
from daar.pruning.slim import slim
from daar.stages.scheduled import Asked
from daar.training import threads
from daar.training.batch_protocol import Batches
from daar.training.batches import Data
from daar.training.engine import fit
from daar.training.recalibrate import recalibrate
from daar.training.recipe import Recipe


def soft(asked: Asked) -> tuple[nn.Module, Description]:
    """Train the whole network by the recipe; after every epoch score it, plan, and zero the filters that would go.

    He et al. 2018 (SFP, Algorithm 1): the filters of least norm are zeroed after an epoch, and all are updated in the
    next; FPGM (He et al. 2019) does the same with its own score. After the last epoch the zeroed filters are cut out
    and BN is recalibrated; there is no further tuning.

    Returns:
        The slim network and its description.
    """
    model, _ = checkpoint.load(asked.base)
    graph = graph_of(model, asked.dense.input_shape)
    plan_file = asked.folder / "plan.json"
    data = _Zeroing(asked, graph, plan_file)
    with threads.suiting(model, asked.dense.input_shape, asked.device):
        progress = fit(
            model, data, asked.recipe, asked.seed, asked.device, teacher=asked.teacher(),
            resume_file=asked.folder / "resume.safetensors", identity=asked.identity(), say=asked.say,
        )  # fmt: skip
        plan = plans.load(plan_file)
        removed = plan.removed(graph)
        trained = model.cpu()
        model = slim(trained, graph, removed)
        error = slim_error(trained, model, graph, removed, asked.batch.images[:CHECKED_IMAGES])
        recalibrate(model.to(asked.device), asked.batch.images.to(asked.device))
        numbers: dict[str, list[Any]] = {"epochs": [asked.recipe.epochs], "macs": [plan.macs], "slim_errors": [error]}
        about = asked.described(plan, progress.curve, numbers, precision=progress.precision, best_epoch=0)
    return model, about


@torch.no_grad()
def zero(model: nn.Module, graph: ChannelGraph, plan: Plan) -> None:
    """Zero the filters of the channels that a plan removes, in place, and nothing else: BN keeps scale and shift."""
    removed = plan.removed(graph)
    for group in graph.in_scope(plan.scope):
        gone = removed[group.name]
        for member in group.members:
            weight = held_as(model, graph.layers[member].weight)
            at = torch.isin(torch.as_tensor(group.positions[member]), torch.tensor(gone, dtype=torch.int64))
            weight[at.to(weight.device)] = 0
            bias = getattr(model.get_submodule(member), "bias", None)
            if bias is not None:
                bias[at.to(bias.device)] = 0


class _Zeroing:
    """The data of a training that also zeroes filters, before the accuracy of an epoch is taken and its state saved."""

    def __init__(self, asked: Asked, graph: ChannelGraph, plan_file: Path) -> None:
        self._asked, self._graph, self._plan_file = asked, graph, plan_file
        self._data: Data[Any] = asked.data
        self._batches: _Counted | None = None

    def batches(self, recipe: Recipe, seed: int, device: torch.device) -> Batches:
        self._batches = _Counted(self._data.batches(recipe, seed, device))
        return self._batches

    def watch(self, model: nn.Module, device: torch.device) -> Accuracy:
        assert self._batches is not None
        done, epochs = self._batches.number + 1, self._asked.recipe.epochs
        if done % (dict(self._asked.schedule.options)["interval"] or 1) == 0 or done == epochs:
            plan = self._asked.plan(model, self._graph, self._asked.target)
            # before the training's state: the plan of its last epoch is there whenever that state is
            plans.save(self._plan_file, plan)
            zero(model, self._graph, plan)
        return self._data.watch(model, device)


class _Counted:
    """Batches that know which epoch they are of, from 0."""

    def __init__(self, inner: Batches) -> None:
        self._inner, self.count, self.steps, self.number = inner, inner.count, inner.steps, 0

    def size(self, step: int) -> int:
        return self._inner.size(step)

    def epoch(self, epoch: int, first_step: int) -> Iterator[tuple[Tensor, ...]]:
        self.number = epoch
        return self._inner.epoch(epoch, first_step)

    def make(self, *drawn: Tensor) -> tuple[Tensor, Tensor]:
        return self._inner.make(*drawn)
