"""The plan: which channels of which group stay. `plan.json`, whoever wrote it, is read here and held against the network."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from daar.errors import InputError
from daar.files import read_json, write_json
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import ChannelGraph
from daar.pruning.importance import group_importance, ranking
from daar.pruning.policies import Loss, Policy
from daar.pruning.slim import Removed
from daar.schemas import validate

SCOPES = ("inner", "all")


@dataclass(frozen=True)
class PlannedGroup:
    """One group of a plan: `kept` are sorted indices below `size`."""

    name: str
    size: int
    kept: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What is kept, and how it came to be.

    Attributes:
        method: whose importance.
        policy: what made counts of it.
        scope: `inner` or `all`.
        target: fraction of the dense MACs to be removed, or None for the policy's own rate.
        macs_dense: of one image, before.
        macs: of one image, after, by the closed form.
        groups: those in scope, in the order of execution.
        frozen: group → why it is not in scope although the scope would have it.
    """

    method: str
    policy: str
    scope: str
    target: float | None
    macs_dense: int
    macs: int
    groups: tuple[PlannedGroup, ...]
    frozen: dict[str, str]

    def removed(self, graph: ChannelGraph) -> Removed:
        """Group → indices that go, held against the network.

        Raises:
            InputError: the plan is not for this network; names the group.
        """
        groups = {group.name: group for group in graph.in_scope("all")}
        for planned in self.groups:
            if planned.name not in groups or groups[planned.name].size != planned.size:
                found = f"of {groups[planned.name].size} channels" if planned.name in groups else "no group that may be pruned"
                raise InputError(
                    f"the plan has a group {planned.name!r} of {planned.size} channels; in this network it is {found}. "
                    "Make a plan for this network: daar plan"
                )
            if list(planned.kept) != sorted(set(planned.kept)) or not planned.kept or planned.kept[-1] >= planned.size:
                raise InputError(f"the plan's kept indices of {planned.name!r} must be sorted, distinct, below {planned.size} and at least one.")
        return {p.name: sorted(set(range(p.size)) - set(p.kept)) for p in self.groups}


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

    Raises:
        InputError: the target is out of range or cannot be reached, or the policy breaks its contract.
    """
    if target is not None and not 0 <= target < 1:
        raise InputError(f"macs_reduction is {target}; it must lie in [0, 1), as the fraction of MACs removed.")
    groups = graph.in_scope(scope)
    importance = group_importance(groups, scores)
    orders = {name: ranking(vector) for name, vector in importance.items()}
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
    return Plan(
        method=method,
        policy=policy_name,
        scope=scope,
        target=target,
        macs_dense=dense,
        macs=macs(counts),
        groups=tuple(PlannedGroup(g.name, g.size, tuple(sorted(orders[g.name][: counts[g.name]]))) for g in groups),
        frozen={g.name: g.frozen for g in graph.groups if g.frozen is not None},
    )


def save(path: Path, plan: Plan) -> None:
    """Write plan.json."""
    write_json(path, to_json(plan))


def to_json(plan: Plan) -> dict[str, Any]:
    """The plan in the form of workflow/schemas/plan.schema.json."""
    return {"format": 1, **asdict(plan)}


def from_json(content: Any, where: str) -> Plan:
    """Read the form of workflow/schemas/plan.schema.json; extra programs may have written it.

    Raises:
        InputError: it does not follow the schema; names the key.
    """
    validate(content, "plan", where, "See workflow/schemas/plan.schema.yaml.")
    groups: Sequence[dict[str, Any]] = content["groups"]
    return Plan(
        **{key: content[key] for key in ("method", "policy", "scope", "target", "macs_dense", "macs", "frozen")},
        groups=tuple(PlannedGroup(g["name"], g["size"], tuple(g["kept"])) for g in groups),
    )


def load(path: Path) -> Plan:
    """Read plan.json."""
    return from_json(read_json(path, "a plan"), str(path))
