"""A control: another plan's widths, filled with random channels."""

from dataclasses import replace

import torch

from daar.device.randomness import generator
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import ChannelGraph
from daar.pruning.importance import ranking
from daar.pruning.plan import Plan, PlannedGroup


def random_at(plan: Plan, graph: ChannelGraph, seed: int) -> Plan:
    """Keep as many channels of every group as `plan` does, drawn from (seed, group).

    Args:
        plan: gives the widths.
        graph: the dense network's groups.
        seed: the setting's.

    Raises:
        InputError: the plan is not for this network.
    """
    plan.removed(graph)
    groups = {group.name: group for group in graph.in_scope(plan.scope)}
    orders = {}
    for planned in plan.groups:
        draw = torch.rand(planned.size, generator=generator("random_at", seed, planned.name), dtype=torch.float64)
        orders[planned.name] = ranking(groups[planned.name], draw.numpy())
    macs = ClosedForm(graph, orders)
    return replace(
        plan,
        method="random_at",
        macs=macs({planned.name: len(planned.kept) for planned in plan.groups}),
        groups=tuple(PlannedGroup(p.name, p.size, tuple(sorted(orders[p.name][: len(p.kept)]))) for p in plan.groups),
    )
