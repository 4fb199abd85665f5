"""Make a plan: counts by a policy, then the most important channels of each group."""

from typing import Any

from daar.errors import InputError
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import ChannelGraph
from daar.pruning.importance import group_importance, ranking
from daar.pruning.plan import Plan, PlannedGroup
from daar.pruning.policy import Loss, Policy
from daar.pruning.rounding import round_counts


def make_plan(
    graph: ChannelGraph,
    scores: dict[str, Any],
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
        loss: calibration loss of the masked network, for policies that ask.
        options: keyword options of the policy.
        method: whose scores, for the record.
        policy_name: for the record.
        scope: `inner` or `all`.
        target: fraction of the dense MACs to be removed, in [0, 1), or None.
        round_to: keep multiples of so many channels in each group.

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
    counts = policy(groups, importance, budget, macs=macs, loss=loss, **options)
    for group in groups:
        if not group.min_kept <= counts.get(group.name, 0) <= group.size:
            raise InputError(
                f"policy {policy_name!r} keeps {counts.get(group.name)} channels of {group.name!r}; "
                f"it must keep {group.min_kept} to {group.size}."
            )
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


def _nothing_in(scope: str, graph: ChannelGraph) -> str:
    if scope == "inner" and graph.in_scope("all"):
        return (
            "no group is of scope 'inner': all channels of this network reach an addition or a concatenation. Take "
            "scope 'all'."
        )
    reasons = "; ".join(sorted({group.frozen for group in graph.groups if group.frozen is not None})[:3])
    return f"no group of this network may be pruned: {reasons or 'it has no convs that torch.fx sees'}."
