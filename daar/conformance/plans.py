"""Checks of a plan(): a method's own, or that of a policy without a method."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from daar.api import InputError, filters
from daar.conformance.subject import batch, breach, graph_of, network, require_surroundings, score, surroundings
from daar.methods import discovery
from daar.methods.discovery import Method
from daar.pruning import importance
from daar.pruning.calibration_loss import CalibrationLoss
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import ChannelGraph
from daar.pruning.policies import SLACK
from daar.pruning.shapes import shapes_of

REDUCTIONS = {"none": None, "0.3": 0.3, "0.45": 0.45, "0.6": 0.6, "0.75": 0.75}


def held(method: Method, reduction: str) -> None:
    """Counts within the groups' limits that meet a target, the same each time and in any mode; pure."""
    model = network()
    graph = graph_of(model)
    groups = graph.in_scope("all")
    shares = importance.group_importance(groups, _scores(method, model, graph))
    macs = ClosedForm(graph, {group.name: importance.ranking(group, shares[group.name]) for group in groups})
    part = REDUCTIONS[reduction]
    budget = None if part is None else int((1 - part) * macs({}))
    before, around = copy.deepcopy(shares), surroundings()
    loss, module = CalibrationLoss(model, graph, batch().images), discovery.load(method)
    more = {"shapes": shapes_of(graph)} if "shapes" in method.given else {}

    def plan() -> dict[str, int]:
        counts: dict[str, int] = module.plan(groups, shares, budget, macs=macs, loss=loss, **more)
        return counts

    if budget is None and _has_no_rate(plan):
        return
    counts = plan()
    require_surroundings(around)
    if not all(np.array_equal(shares[name], before[name]) for name in before):
        breach("the importance as it was", "another", "Work on a copy of it.")
    _require_counts(counts, groups)
    _require_target(counts, groups, macs, budget)
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            if plan() != counts:
                breach(f"the same counts under torch.{mode.__name__}()", "others", "Keep no state between calls.")


def _scores(method: Method, model: nn.Module, graph: ChannelGraph) -> dict[str, Tensor]:
    """The method's own, or the filters' L1 norms for a policy without a method."""
    if method.is_policy:
        return {layer: filters(model, layer).abs().sum(dim=(1, 2, 3)) for layer in graph.scored_layers()}
    return score(method)


def _has_no_rate(plan: Callable[[], Any]) -> bool:
    """Whether a policy wants a target, and says so in one line."""
    try:
        plan()
    except InputError as error:
        if "has no rate of its own. Give a target" in str(error):
            return True
        fix = "Take macs_target None for a rate of the policy's own, or raise InputError of daar.api with those words."
        breach("counts without a target, or one line that it 'has no rate of its own. Give a target'", error, fix)
    return False


def _require_counts(counts: dict[str, int], groups: Any) -> None:
    for group in groups:
        if group.name not in counts:
            breach(f"a count for each of {len(groups)} groups", f"none for {group.name!r}", "Return all of `groups`.")
        if not group.min_kept <= counts[group.name] <= group.size:
            wanted = f"{group.min_kept} to {group.size} channels of {group.name!r}"
            breach(wanted, counts[group.name], "Keep each count within its group's min_kept and size.")


def _require_target(counts: dict[str, int], groups: Any, macs: ClosedForm, budget: int | None) -> None:
    """Something goes; no more stays than may, and nothing that would still fit is left out."""
    dense, left = macs({}), macs(counts)
    if left >= dense:
        breach(f"fewer than the dense network's {dense:,} MACs", f"{left:,}", "Remove channels.")
    if budget is None:
        return
    if left > budget:
        breach(f"{budget:,} MACs or fewer", f"{left:,}", "Meet macs_target: see smallest_ratio of daar.api.")
    wider = [{**counts, g.name: counts[g.name] + 1} for g in groups if counts[g.name] < g.size]
    if budget - left > SLACK * dense and any(macs(more) <= budget for more in wider):
        wanted = f"{budget:,} MACs but for {100 * SLACK:g} % of {dense:,}, as other channels would fit"
        breach(wanted, f"{left:,}", "Fill up what is left: see refill_by_importance_per_mac of daar.api.")
