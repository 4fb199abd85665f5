"""Make a plan: counts by a policy, then the most important channels of each group."""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from daar.errors import InputError
from daar.methods import discovery
from daar.methods.discovery import Method
from daar.pruning import policies
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import ChannelGraph, Group
from daar.pruning.importance import group_importance, ranking
from daar.pruning.plan import SCOPES, Plan, PlannedGroup
from daar.pruning.policy import Counts, Loss, Policy
from daar.pruning.reach import reachable, reasons
from daar.pruning.rounding import round_counts


def plan_by_policy(
    graph: ChannelGraph,
    scores: dict[str, Tensor],
    method: Method,
    policy: str,
    *,
    options: dict[str, Any],
    make_loss: Callable[[], Loss],
    scope: str,
    target: float | None,
    round_to: int = 1,
    network: str | None = None,
    methods_dirs: Sequence[Path] = (),
) -> Plan:
    """Make a plan of a method's scores, by the name of a policy.

    Args:
        graph: the dense network's groups.
        scores: layer → (c_out,) importance of its filters.
        method: whose scores; its plan() options are taken where the policy is its own.
        policy: name of the policy.
        options: keyword options of the variant.
        make_loss: makes the calibration loss; called once, and only for a policy that asks for a loss.
        scope: `inner` or `all`.
        target: fraction of the dense MACs to be removed, in [0, 1), or None for the policy's own rate.
        round_to: keep multiples of this number of channels in each group.
        network: name in the registry, for a paper's ratios.
        methods_dirs: further folders of methods, whose policies count too.

    Raises:
        InputError: no such policy, an option is unknown, or the target is out of range or out of reach.
    """
    own = method.plans is not None and method.policy == policy
    made_loss = functools.cache(make_loss)

    def loss(removed: dict[str, list[int]]) -> float:
        return made_loss()(removed)  # no image is read and no network runs for a policy that does not ask

    return make_plan(
        graph,
        scores,
        policies.get(policy, methods_dirs, network=network),
        loss=loss,
        options=discovery.split_options(method, options)[1] if own else {},
        method=method.name,
        policy_name=policy,
        scope=scope,
        target=target,
        round_to=round_to,
    )


def uniform_plan(graph: ChannelGraph, scores: dict[str, Tensor], scope: str, target: float) -> Plan:
    """Keep the most important channels at uniform widths, whosever scores they are; arguments as of `make_plan`."""
    return make_plan(
        graph,
        scores,
        policies.uniform,
        loss=lambda _: 0.0,  # it asks for none
        options={},
        method="",
        policy_name="uniform",
        scope=scope,
        target=target,
    )


def make_plan(
    graph: ChannelGraph,
    scores: dict[str, Tensor],
    policy: Policy,
    *,
    loss: Loss,
    options: dict[str, Any],
    method: str,
    policy_name: str,
    scope: str,
    target: float | None,
    round_to: int = 1,
) -> Plan:
    """Choose counts by the policy, then the most important channels of each group.

    Args:
        graph: the dense network's groups.
        scores: layer → (c_out,) importance of its filters.
        policy: see `Policy`.
        loss: calibration loss of the masked network, for policies that ask for it.
        options: keyword options of the policy.
        method: whose scores, for the record.
        policy_name: for the record.
        scope: `inner` or `all`.
        target: fraction of the dense MACs to be removed, in [0, 1), or None.
        round_to: keep multiples of this number of channels in each group.

    Raises:
        InputError: the target is out of range or cannot be reached, or the policy breaks its contract.
    """
    if target is not None and not 0 <= target < 1:
        raise InputError(f"macs_reduction is {target}; it must lie in [0, 1), as the fraction of MACs removed.")
    groups = graph.in_scope(scope)
    if not groups:
        raise InputError(_nothing_in(scope, graph))
    importance = group_importance(groups, scores)
    orders = {group.name: ranking(group, importance[group.name]) for group in groups}
    macs = ClosedForm(graph, orders)
    dense = macs({})
    budget = None if target is None else int((1 - target) * dense)
    if budget is not None and budget < macs({group.name: group.min_kept for group in groups}):
        raise InputError(_too_much(budget, scope, graph))
    counts = policy(groups, importance, budget, macs=macs, loss=loss, **options)
    _check(counts, groups, policy_name)
    counts = round_counts(counts, groups, round_to, macs, budget)
    return Plan(
        method=method,
        policy=policy_name,
        scope=scope,
        target=target,
        macs_dense=dense,
        macs=macs(counts),
        groups=tuple(PlannedGroup(g.name, g.size, tuple(sorted(orders[g.name][: counts[g.name]]))) for g in groups),
        frozen={g.name: g.frozen for g in graph.groups if g.frozen is not None},
        round_to=round_to,
    )


def _check(counts: Counts, groups: Sequence[Group], policy: str) -> None:
    """Refuse counts outside a group's limits."""
    for group in groups:
        if not group.min_kept <= counts.get(group.name, 0) <= group.size:
            raise InputError(
                f"policy {policy!r} keeps {counts.get(group.name)} channels of {group.name!r}; "
                f"it must keep {group.min_kept} to {group.size}."
            )


def _too_much(budget: int, scope: str, graph: ChannelGraph) -> str:
    closest = math.floor(1000 * reachable(graph, scope)) / 1000  # rounded so that it can be reached
    of = f"in scope {scope!r}"
    return (
        f"a target of {budget:,} MACs cannot be reached: the closest macs_reduction is {closest:.3f} {of}. "
        f"{_what_stays(scope, graph)} Take a smaller macs_reduction{_wider(scope, graph, closest)}."
    )


def _what_stays(scope: str, graph: ChannelGraph) -> str:
    kept = "; ".join(reasons(graph, scope))
    return f"Of the MACs stay: {kept}." if kept else "Each group keeps the least that it must."


def _wider(scope: str, graph: ChannelGraph, closest: float) -> str:
    """The scopes that reach more."""
    more = {wider: reachable(graph, wider) for wider in SCOPES[SCOPES.index(scope) + 1 :]}
    found = [f"scope {wider!r}, which reaches {most:.3f}" for wider, most in more.items() if most > closest + 0.001]
    return f", or {' or '.join(found)}" if found else ""


def _nothing_in(scope: str, graph: ChannelGraph) -> str:
    if not graph.layers:
        return "no group of this network may be pruned: it runs no conv and no linear layer."
    return (
        f"no group of this network may be pruned in scope {scope!r}. {_what_stays(scope, graph)}"
        f"{' Take' if (wider := _wider(scope, graph, 0.0)) else ''}{wider.removeprefix(', or')}"
        f"{'.' if wider else ''}"
    )
