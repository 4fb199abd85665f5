"""Make a plan: counts by a policy, then the most important channels of each group."""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daar.device.malloc import retain_freed_memory
from daar.errors import InputError
from daar.methods import discovery
from daar.methods.discovery import Method
from daar.pruning import own_ratios, policies
from daar.pruning.closed_form import ClosedForm, ParamsForm
from daar.pruning.groups import MIN_CHANNELS, ChannelGraph, Group
from daar.pruning.importance import group_importance, ranking
from daar.pruning.out_of_reach import Asked, beyond_policy, nothing_in, too_much
from daar.pruning.plan import Plan, PlannedGroup
from daar.pruning.policy import Counts, Loss, Macs, Policy
from daar.pruning.reach import fewest, whole
from daar.pruning.rounding import round_counts
from daar.pruning.target import most_left


class OutOfReachError(InputError):
    """So much of a network cannot be removed; the message says how much can, and what keeps the rest."""


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
    policy_options: Mapping[str, Any] | None = None,
    ratios: own_ratios.Spec | None = None,
    min_channels: int = MIN_CHANNELS,
    params: Sequence[str] | None = None,
) -> Plan:
    """Make a plan of a method's scores, by the name of a policy.

    Args:
        graph: the dense network's groups.
        scores: layer → (c_out,) importance of its filters.
        method: whose scores; its plan() options are taken where the policy is its own.
        policy: name of the policy.
        options: keyword options of the variant.
        make_loss: makes the calibration loss; called once, and only for a policy that asks for a loss.
        scope: `inner`, `all` or `units`.
        target: fraction of the dense MACs to be removed, in [0, 1), or None for the policy's own rate.
        round_to: keep multiples of this number of channels in each group.
        network: name in the registry, for a paper's ratios.
        methods_dirs: further folders of methods, whose policies count too.
        policy_options: keyword options of the policy, whosever it is.
        ratios: of one's own, which take the policy's place.
        min_channels: the fewest filters that a layer keeps; it also keeps 5 %.
        params: names of the network's parameters, if `target` is a fraction of them and not of MACs.

    Raises:
        InputError: no such policy, an option is unknown, or the target is out of range or out of reach.
    """
    own = method.plans is not None and method.policy == policy
    memory = contextlib.ExitStack()

    @functools.cache
    def made_loss() -> Loss:
        memory.enter_context(retain_freed_memory(torch.device("cpu")))  # each loss needs the same
        return make_loss()

    def loss(removed: dict[str, list[int]]) -> float:
        return made_loss()(removed)  # no image is read and no network runs for a policy that does not ask

    chosen = discovery.split_options(method, options)[1] if own else {}
    if ratios is None:
        policies.check_options(policy, policy_options or {}, methods_dirs)
        rule = policies.get(policy, methods_dirs, network=network)
    else:
        rule = _of_ratios(ratios, graph, scope)
    with memory:
        return make_plan(
            graph,
            scores,
            rule,
            loss=loss,
            options={**chosen, **(policy_options or {})} if ratios is None else {},
            method=method.name,
            policy_name=policy if ratios is None else own_ratios.name(ratios),
            scope=scope,
            target=target,
            round_to=round_to,
            min_channels=min_channels,
            params=params,
        )


def _of_ratios(ratios: own_ratios.Spec, graph: ChannelGraph, scope: str) -> Policy:
    convs = [name for name, layer in graph.layers.items() if layer.kind == "conv" and not layer.is_depthwise]
    units = [member for group in graph.units for member in group.members]
    return own_ratios.policy(ratios, convs, units, whole(graph, scope))


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
    min_channels: int = MIN_CHANNELS,
    params: Sequence[str] | None = None,
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
        scope: `inner`, `all` or `units`.
        target: fraction of the dense MACs to be removed, in [0, 1), or None.
        round_to: keep multiples of this number of channels in each group.
        min_channels: the fewest filters that a layer keeps; it also keeps 5 %.
        params: names of the network's parameters, if `target` is a fraction of them and not of MACs.

    Raises:
        InputError: the target is out of range, cannot be reached or is missed by the policy, or that breaks its
            contract.
    """
    target_of = "macs" if params is None else "params"
    if target is not None and not 0 <= target < 1:
        raise InputError(
            f"{target_of}_reduction is {target}; it must lie in [0, 1), as the fraction of "
            f"{'MACs' if params is None else 'parameters'} removed."
        )
    if min_channels < 1:
        raise InputError(f"min_channels is {min_channels}; it must be at least 1: no layer may lose all its filters.")
    groups = tuple(replace(group, least=min_channels) for group in graph.in_scope(scope))
    if not groups:
        raise OutOfReachError(nothing_in(Asked(graph, scope, min_channels, _cost(graph, params), target_of, round_to)))
    importance = group_importance(groups, scores)
    orders = {group.name: ranking(group, importance[group.name]) for group in groups}
    macs = ClosedForm(graph, orders)
    cost = _cost(graph, params, orders)
    asked = Asked(graph, scope, min_channels, cost, target_of, max(1, round_to))
    budget = None if target is None else most_left(target, cost({}))
    if budget is not None and budget < fewest(graph, scope, cost, min_channels):
        raise OutOfReachError(too_much(asked, budget))
    try:
        counts = policy(groups, importance, budget, macs=cost, loss=loss, **options)
    except policies.TargetError as error:
        raise _named(error, asked, policy_name, budget) from None
    _check(counts, groups, policy_name)
    if budget is not None and cost(counts) > budget:
        raise InputError(_missed(policy_name, cost(counts), budget, target_of))
    counts = round_counts(counts, groups, round_to, cost, budget, target_of)
    return Plan(
        method=method,
        policy=policy_name,
        scope=scope,
        target=target,
        macs_dense=macs({}),
        macs=macs(counts),
        groups=tuple(PlannedGroup(g.name, g.size, tuple(sorted(orders[g.name][: counts[g.name]]))) for g in groups),
        frozen={g.name: g.frozen for g in graph.groups if g.frozen is not None},
        round_to=round_to,
        target_of=target_of,
        exclude=graph.exclude,
        repairs=graph.repairs,
    )


def _cost(graph: ChannelGraph, params: Sequence[str] | None, orders: dict[str, list[int]] | None = None) -> Macs:
    """What the target is a fraction of, for given counts."""
    return ClosedForm(graph, orders) if params is None else ParamsForm(graph, params, orders)


def _named(error: policies.TargetError, asked: Asked, policy: str, budget: int | None) -> InputError:
    """A policy's error with its name and what helps; as it is where it is not of the plan's own target."""
    if budget is None or error.target != budget:
        return error
    return InputError(beyond_policy(asked, policy, error.least, budget))


def _missed(policy: str, left: int, budget: int, of: str) -> str:
    unit = "MACs" if of == "macs" else "parameters"
    return (
        f"policy {policy!r} misses the target: it leaves {left:,} {unit}, and {budget:,} or fewer were asked for. "
        "Correct the policy, which must meet the macs_target that it is given, or choose another."
    )


def _check(counts: Counts, groups: Sequence[Group], policy: str) -> None:
    """Refuse counts outside a group's limits."""
    for group in groups:
        if not group.min_kept <= counts.get(group.name, 0) <= group.size:
            raise InputError(f"policy {policy!r} {_outside(counts, group)}. Correct the policy, or choose another.")


def _outside(counts: Counts, group: Group) -> str:
    if group.name not in counts:
        return f"returns no count for group {group.name!r}; it must return one for every group"
    wanted = f"it must keep {group.min_kept} to {group.size}"
    return f"keeps {counts[group.name]} channels of {group.name!r}; {wanted}"
