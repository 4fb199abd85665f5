"""Schedules that remove filters in steps, and tune the whole network after each: iterative and layerwise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from daar.checkpoint import checkpoint
from daar.checkpoint.checkpoint import Description
from daar.device.randomness import derive
from daar.pruning import plan as plans
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import ChannelGraph, graph_of
from daar.pruning.plan import Plan, PlannedGroup
from daar.pruning.planning import uniform_plan
from daar.pruning.proof import CHECKED_IMAGES, slim_error
from daar.pruning.slim import Removed, slim
from daar.stages.scheduled import Asked
from daar.storage import files
from daar.training import threads
from daar.training.budget import stretched
from daar.training.engine import fit
from daar.training.progress import Epoch, Progress
from daar.training.recalibrate import recalibrate
from daar.training.schedules import parts

BEST = "best"


@dataclass(frozen=True)
class State:
    """How far the steps have come.

    Attributes:
        model: the network, on the CPU; dense at first.
        about: its description; the plan is in numbers of the dense network, None at first.
    """

    model: nn.Module
    about: Description

    @property
    def curve(self) -> list[Epoch]:
        """Of all epochs so far."""
        tuned = self.about.provenance.get("tuned", {}) if self.about.plan else {}
        return [Epoch(**row) for row in tuned.get("curve", [])]

    def parts(self, epochs: int, macs: int, error: float) -> dict[str, list[float]]:
        """What `Asked.described` wants of all steps, with one more."""
        more = {"epochs": epochs, "macs": macs, "slim_errors": error}
        before = self.about.provenance["tuned"]["schedule"] if self.about.plan else {}
        return {key: [*before.get(key, []), value] for key, value in more.items()}


# the plan of a step, by its number from 1, for the network as it is before it; in numbers of the dense network
Choose = Callable[[int, State], Plan]


def iterative(asked: Asked) -> Path:
    """Rounds of score, plan, slim and tune; later rounds score the tuned network, the last one reaches the target.

    After round k of r, k/r of the MACs that are to go are gone (Molchanov et al. 2017 and 2019 remove a few filters,
    train on, and repeat; Li et al. 2017 call it "prune and retrain iteratively"). Each round has its own whole
    learning-rate schedule, stretched to its epochs.

    Returns:
        Folder of the last round.
    """
    dense, _ = checkpoint.load(asked.base)
    graph, target = graph_of(dense, asked.dense.input_shape), asked.target
    assert target is not None
    # before the first round is tuned, not after
    ones = {layer: torch.ones(len(graph.layers[layer].outputs)) for layer in graph.scored_layers()}
    uniform_plan(graph, ones, asked.scope, target)
    rounds = dict(asked.schedule.options)["rounds"] or 1

    def choose(number: int, state: State) -> Plan:
        before = state.about.plan
        here = graph_of(state.model, asked.dense.input_shape)
        left = 1.0 if before is None else before.macs / before.macs_dense
        # of the last round exactly the target
        goal = target if number == rounds else target * number / rounds
        made = asked.plan(state.model, here, goal if before is None else max(0.0, 1 - (1 - goal) / left))
        whole = made if before is None else replace(plans.composed(before, made), macs=made.macs)
        return replace(whole, target=target)

    return _in_steps(asked, State(dense, asked.dense), parts(asked.recipe.epochs, rounds), "round", choose)


def layerwise(asked: Asked) -> Path:
    """One plan of the dense network, carried out group by group from the input on, the network tuned after each.

    Lin et al. 2020 (HRank): filters are ranked once; for each layer in turn its lowest are masked and the whole network
    is tuned, with the learning-rate schedule begun again. A mask that is applied after every step removes its filters
    for good, so they are cut out here, which computes the same.

    Returns:
        Folder of the last step.
    """
    dense, _ = checkpoint.load(asked.base)
    graph = graph_of(dense, asked.dense.input_shape)
    whole = asked.kept_plan(asked.folder / "plan.json", lambda: asked.plan(dense, graph, asked.target))
    losing = [group.name for group in whole.groups if len(group.kept) < group.size]
    most = dict(asked.schedule.options)["steps"] or len(losing)
    steps = max(1, min(most, len(losing), asked.recipe.epochs))
    ends = [sum(parts(len(losing), steps)[:number]) for number in range(steps + 1)]

    def choose(number: int, _: State) -> Plan:
        done = set(losing[: ends[number]])
        groups = tuple(
            group if group.name in done else replace(group, kept=tuple(range(group.size))) for group in whole.groups
        )
        return replace(whole, groups=groups, macs=_macs(graph, groups))

    return _in_steps(asked, State(dense, asked.dense), parts(asked.recipe.epochs, steps), "step", choose)


def _macs(graph: ChannelGraph, groups: Sequence[PlannedGroup]) -> int:
    orders = {g.name: [*g.kept, *sorted(set(range(g.size)) - set(g.kept))] for g in groups}
    return ClosedForm(graph, orders)({g.name: len(g.kept) for g in groups})


def _in_steps(asked: Asked, state: State, epochs: Sequence[int], word: str, choose: Choose) -> Path:
    folder = asked.folder
    for number, length in enumerate(epochs, 1):
        folder = asked.folder / str(number)
        name = f"{word} {number} of {len(epochs)}"
        if (folder / "model.json").exists():
            asked.say(f"{name} is done")
        else:
            _step(asked, state, number, length, name, choose, last=number == len(epochs))
        # read again by all, so that a run that was killed in between is no other
        state = State(*checkpoint.load(folder))
    return folder


def _step(
    asked: Asked, state: State, number: int, epochs: int, name: str, choose: Choose, *, last: bool
) -> None:  # fmt: skip
    """Slim the network, prove it, recalibrate its BN and tune it; its checkpoint is written last."""
    folder = asked.folder / str(number)
    plan = asked.kept_plan(folder / "plan.json", lambda: choose(number, state))
    graph = graph_of(state.model, asked.dense.input_shape)
    removed = _newly_removed(state.about.plan, plan)
    model = slim(state.model, graph, removed)
    error = slim_error(state.model, model, graph, removed, asked.batch.images[:CHECKED_IMAGES])
    asked.say(
        f"{name}: {plan.macs:,} of {plan.macs_dense:,} MACs stay, {epochs} epochs; slim network equals the masked one: "
        f"{error:.1e} of the largest logit (float64, {CHECKED_IMAGES} images)"
    )
    recalibrate(model.to(asked.device), asked.batch.images.to(asked.device))
    with threads.suiting(model, asked.dense.input_shape, asked.device):
        progress = _fit(asked, model, plan, number, epochs)
        before = state.curve
        curve = before + [replace(row, epoch=row.epoch + len(before)) for row in progress.curve]
        about = asked.described(
            plan, curve, state.parts(epochs, plan.macs, error), precision=progress.precision,
            best_epoch=len(before) + progress.best_epoch if progress.best_epoch else 0,
        )  # fmt: skip
    if last and progress.best_epoch:
        checkpoint.save_state(folder / BEST, progress.best, about)
    checkpoint.save(folder, model, about)


def _fit(asked: Asked, model: nn.Module, plan: Plan, number: int, epochs: int) -> Progress:
    return fit(
        model,
        asked.data,
        stretched(asked.recipe, epochs),
        # the first as a tuning in one shot has it; later ones see the images in another order
        asked.seed if number == 1 else derive("step", asked.seed, number),
        asked.device,
        teacher=asked.teacher(),
        resume_file=asked.folder / str(number) / "resume.safetensors",
        identity=asked.identity(step=number, plan=files.digest(plans.to_json(plan))),
        say=asked.say,
    )


def _newly_removed(before: Plan | None, plan: Plan) -> Removed:
    """What goes now, in numbers of the network as the plan before left it."""
    kept = {} if before is None else {group.name: group.kept for group in before.groups}
    return {
        g.name: [at for at, channel in enumerate(kept.get(g.name, range(g.size))) if channel not in set(g.kept)]
        for g in plan.groups
    }
