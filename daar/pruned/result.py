"""What pruning gives: the slim network, what was done to it, and the plan to make it again."""

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from daar.errors import InputError
from daar.measure.timed import Latency
from daar.program.inputs import Images, fewest
from daar.pruned import images as forms
from daar.pruned.network import apart_from, in_modes_of, prepared, unwrapped
from daar.pruned.recurrent import by_steps
from daar.pruned.timing import latency
from daar.pruning.folding import folded
from daar.pruning.groups import ChannelGraph
from daar.pruning.plan import Plan
from daar.pruning.repairing import proven_graph
from daar.pruning.slim import slim
from daar.pruning.slim_report import SlimReport

# advice of the command line, which knows no networks of one's own
_COMMAND = re.compile(r"Make (a|the) plan \S[^.]*: daar plan$")


@dataclass(frozen=True)
class Pruned:
    """A slim network and how it came to be.

    Attributes:
        model: of the class of the network given, on its device and in its mode; untuned. It computes what that computes
            with the removed channels zeroed (`report.slim_error`).
        report: its layers, MACs and parameters next to the dense ones; `print(pruned.report)`.
        plan: what was kept; `slim_by(model, images, plan)` makes the same network again, for weights saved elsewhere.
        called_with: the form of the images: shapes, types and structure, without a value.
    """

    model: nn.Module
    report: SlimReport
    plan: Plan
    called_with: Any = None

    def latency(
        self,
        images: Any = None,
        against: nn.Module | None = None,
        *,
        batch_size: int | None = None,
        rounds: int = 9,
        threads: int | None = None,
    ) -> Latency:
        """How long the slim network takes for a batch: `pruned.latency(against=model, batch_size=16)`.

        Args:
            images: the batch, as of `daar.latency`; None for one of zeros, of the size that was pruned with.
            against: the dense network, on the same device, to run in turn with it.
            batch_size: images in the batch of zeros; None for 1.
            rounds: windows of 0.2 s of each network, at least 2.
            threads: CPU threads; None for torch's number.

        Raises:
            InputError: an argument is wrong, or both images and batch_size are given.
        """
        if isinstance(images, nn.Module):
            raise InputError(f"images are a {type(images).__name__}; a network to compare with is given as against=….")
        if images is not None and batch_size is not None:
            raise InputError("images and batch_size are given; batch_size is for a batch of zeros. Give one of them.")
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it must be 1 or more.")
        batch = forms.blank(self.called_with, batch_size or 1) if images is None else images
        return latency(self.model, batch, against, rounds=rounds, threads=threads)


def slim_by(model: nn.Module, images: Any, plan: Plan) -> nn.Module:
    """The slim network of a plan, for instance to load weights into that were tuned elsewhere.

    Args:
        model: a network of the shape of that which the plan was made for; left as it is.
        images: as it was made for, one is enough; the values do not matter.
        plan: of a `Pruned`, of a folder of `daar.save` (`daar.load_plan(folder)`), or of a plan.json that a command
            wrote (`daar.pruning.plan.load(file)`). It knows what was excluded and repaired.

    Raises:
        InputError: the plan is not for this network.
    """
    if not isinstance(plan, Plan):
        raise InputError(
            f"plan is a {type(plan).__name__}; it must be a Plan, such as pruned.plan or daar.load_plan(folder)."
        )
    model, _ = unwrapped(model)
    taken, _ = forms.collected(model, images, None, 32)
    dense = prepared(model)
    with apart_from(model):
        tried = forms.placed(dense, taken)
    some = fewest(dense, tried.images)
    return slimmed_by(dense, model, some, plan)


def slimmed_by(dense: nn.Module, model: nn.Module, images: Images, plan: Plan) -> nn.Module:
    """The slim network of a plan, by its own repairs; by new ones where the network's code has moved since.

    Args:
        dense: a copy of `model`.
        model: whose modes the slim network gets.
        images: two, where the network is.
        plan: for this network.

    Raises:
        InputError: the plan is not for this network.
    """
    if plan.folded:
        dense, _ = folded(dense, images)
    try:
        with by_steps(dense):
            graph, removed = _graph_and_removed(dense, images, plan)
    except InputError as error:
        raise InputError(_COMMAND.sub("Give the network that was pruned.", str(error))) from error
    return in_modes_of(slim(dense, graph, removed), model)


def _graph_and_removed(dense: nn.Module, images: Images, plan: Plan) -> tuple[ChannelGraph, dict[str, list[int]]]:
    graph = plan.graph(dense, images)
    try:
        return graph, plan.removed(graph)
    except InputError as error:
        try:  # lines that repairs name may be others by now
            graph = proven_graph(dense, images, plan.exclude)
            return graph, plan.removed(graph)
        except InputError:
            raise error from None
