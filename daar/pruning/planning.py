"""Make a plan: counts by a policy, then the most important channels of each group."""

import contextlib
import functools
import math
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
from daar.pruning import limits, own_ratios, policies
from daar.pruning.closed_form import ClosedForm, ParamsForm
from daar.pruning.groups import MIN_CHANNELS, ChannelGraph, Group
from daar.pruning.importance import group_importance, ranking
from daar.pruning.plan import SCOPES, Plan, PlannedGroup
from daar.pruning.policy import Counts, Loss, Macs, Policy
from daar.pruning.reach import reachable, reasons, whole
from daar.pruning.rounding import round_counts


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
        scope: `inner` or `all`.
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
        scope: `inner` or `all`.
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
        raise OutOfReachError(_nothing_in(scope, graph, min_channels))
    importance = group_importance(groups, scores)
    orders = {group.name: ranking(group, importance[group.name]) for group in groups}
    macs = ClosedForm(graph, orders)
    cost: Macs = macs if params is None else ParamsForm(graph, params, orders)
    budget = None if target is None else int((1 - target) * cost({}))
    if params is None and budget is not None and budget < macs({group.name: group.min_kept for group in groups}):
        raise OutOfReachError(_too_much(budget, scope, graph, min_channels, orders))
    if params is not None and budget is not None:
        _require_params(cost, groups, budget)
    counts = policy(groups, importance, budget, macs=cost, loss=loss, **options)
    _check(counts, groups, policy_name)
    if budget is not None and cost(counts) > budget:
        raise InputError(_missed(policy_name, cost(counts), budget, target_of))
    counts = round_counts(counts, groups, round_to, cost, budget)
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


def _require_params(params: Macs, groups: Sequence[Group], budget: int) -> None:
    """Refuse a target of parameters that no policy can reach."""
    least, dense = params({group.name: group.min_kept for group in groups}), params({})
    if least > budget:
        closest = math.floor(1000 * (1 - least / dense)) / 1000
        raise InputError(
            f"a target of {budget:,} parameters cannot be reached: at {least:,} each group is at its minimum. The "
            f"closest params_reduction is {closest:.3f}. {_held_by_limits(groups)}".rstrip()
        )


def _held_by_limits(groups: Sequence[Group]) -> str:
    """What `max_ratio` has to do with it, a sentence; empty where nothing."""
    held = sum(limits.holds(group) for group in groups)
    return f"max_ratio holds back {held} of {len(groups)} groups." if held else ""


def _missed(policy: str, left: int, budget: int, of: str) -> str:
    unit = "MACs" if of == "macs" else "parameters"
    return (
        f"policy {policy!r} misses the target: it leaves {left:,} {unit}, and {budget:,} or fewer were asked for. Give "
        f"a lower {of}_reduction, or another policy."
    )


def _check(counts: Counts, groups: Sequence[Group], policy: str) -> None:
    """Refuse counts outside a group's limits."""
    for group in groups:
        if not group.min_kept <= counts.get(group.name, 0) <= group.size:
            raise InputError(
                f"policy {policy!r} keeps {counts.get(group.name)} channels of {group.name!r}; "
                f"it must keep {group.min_kept} to {group.size}."
            )


def _too_much(budget: int, scope: str, graph: ChannelGraph, least: int, orders: dict[str, list[int]]) -> str:
    most = reachable(graph, scope, least, orders)
    closest = math.floor(1000 * most) / 1000  # rounded so that it can be reached
    return (
        f"a target of {budget:,} MACs cannot be reached: the closest macs_reduction is {closest:.3f} in scope "
        f"{scope!r}. {_what_stays(scope, graph, least)} Take a smaller macs_reduction"
        f"{_wider(scope, graph, closest, least)}."
    )


def _what_stays(scope: str, graph: ChannelGraph, least: int) -> str:
    kept = "; ".join(reasons(graph, scope))
    said = [f"What holds it back, by the layers' share of the MACs: {kept}."] if kept else []
    held = _held_by_limits(graph.in_scope(scope))
    if not (kept or held) or least > MIN_CHANNELS:
        said.append(f"Each layer keeps at least {least} filters and 5 %.")
    if held:
        said.append(held)
    return " ".join(said)


def _wider(scope: str, graph: ChannelGraph, closest: float, least: int) -> str:
    """What reaches more: the narrowest scope of each reach, and fewer channels."""
    found, most = [], closest
    for wider in SCOPES[SCOPES.index(scope) + 1 :]:
        if (reached := reachable(graph, wider, least)) > most + 0.001:
            found.append(f"scope {wider!r}, which reaches {reached:.3f}")
            most = reached
    if least > MIN_CHANNELS and (reached := reachable(graph, scope)) > closest + 0.001:
        found.append(f"a smaller min_channels, with which {reached:.3f} is reached")
    unlimited = limits.free(graph)
    if unlimited is not graph and (reached := reachable(unlimited, scope, least)) > closest + 0.001:
        found.append(f"a larger max_ratio, which reaches up to {reached:.3f}")
    return f", or {' or '.join(found)}" if found else ""


def _nothing_in(scope: str, graph: ChannelGraph, least: int) -> str:
    if not graph.layers:
        return "no group of this network may be pruned: it runs no conv and no linear layer."
    wider = _wider(scope, graph, 0.0, least)
    return (
        f"no group of this network may be pruned in scope {scope!r}. {_what_stays(scope, graph, least)}"
        f"{' Take' if wider else ''}{wider.removeprefix(', or')}{'.' if wider else ''}"
    )
