"""The plan: which channels of which group stay. Whoever wrote plan.json, it is checked here against the network."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from daar.errors import InputError
from daar.program.inputs import Images
from daar.pruning.groups import ChannelGraph, channel_graph
from daar.pruning.repairs import Repairs
from daar.pruning.slim import Removed
from daar.storage.documents import read_json
from daar.storage.files import write_json
from daar.storage.schemas import validate

SCOPES = ("inner", "all", "units")


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
        scope: `inner`, `all` or `units`.
        target: fraction of the dense MACs to be removed, or None for the policy's own rate.
        target_of: what `target` is a fraction of, if not MACs: `params`.
        macs_dense: of one image, before.
        macs: of one image, after, by the closed form.
        groups: those in scope, in the order of execution.
        frozen: group → why it is not in scope although the scope would have it.
        round_to: the counts are multiples of this, or a group's whole size.
        exclude: patterns of modules whose convs keep all their filters.
        repairs: what a proof found about the network's code.
        folded: whether weights that the network computes from parameters are plain ones first (folding.py).
    """

    method: str
    policy: str
    scope: str
    target: float | None
    macs_dense: int
    macs: int
    groups: tuple[PlannedGroup, ...]
    frozen: dict[str, str]
    round_to: int = 1
    target_of: str = "macs"
    exclude: tuple[str, ...] = ()
    repairs: Repairs = field(default_factory=Repairs)
    folded: bool = False

    def graph(self, model: nn.Module, images: Images) -> ChannelGraph:
        """The channel groups that the plan was made for: what it excludes stays, what was repaired is repaired.

        Args:
            model: the dense network; left as it is.
            images: at least 2, of the size that it is used with, on its device; the values do not matter.
        """
        return channel_graph(model, images, self.exclude, self.repairs)

    def removed(self, graph: ChannelGraph) -> Removed:
        """Group → indices that go, checked against the network.

        Raises:
            InputError: the plan is not for this network; names the group.
        """
        groups = {group.name: group for group in graph.in_scope("units")}
        listed = [planned.name for planned in self.groups]
        for planned in self.groups:
            if planned.name not in groups or groups[planned.name].size != planned.size:
                other = (
                    f"of {groups[planned.name].size} channels"
                    if planned.name in groups
                    else "no group that may be pruned"
                )
                raise InputError(
                    f"the plan has a group {planned.name!r} of {planned.size} channels; in this network it is {other}. "
                    "Make a plan for this network: daar plan"
                )
            if list(planned.kept) != sorted(set(planned.kept)) or not planned.kept or planned.kept[-1] >= planned.size:
                raise InputError(
                    f"the plan's kept indices of {planned.name!r} must be sorted, distinct, at least one, and below "
                    f"{planned.size}. Make the plan again: daar plan"
                )
            if gone := sorted(set(groups[planned.name].fixed) - set(planned.kept)):
                raise InputError(
                    f"the plan removes channel {gone[0]} of {planned.name!r}, which must stay: "
                    f"{groups[planned.name].fixed[gone[0]]}. Keep it."
                )
            for member, positions in groups[planned.name].positions.items():
                if set(planned.kept).isdisjoint(positions.tolist()):
                    raise InputError(f"the plan leaves no filter of {member!r}. Keep some of those it makes.")
            for part in groups[planned.name].parts:
                if part.isdisjoint(planned.kept):
                    raise InputError(
                        f"the plan leaves none of the channels {min(part)} to {max(part)} of {planned.name!r}, which a "
                        "layer reads apart from the others. Keep some of them."
                    )
        wanted = [group.name for group in graph.in_scope(self.scope)]
        if odd := sorted({name for name in {*listed, *wanted} if listed.count(name) != wanted.count(name)}):
            raise InputError(
                f"the plan lists group {odd[0]!r} {listed.count(odd[0])} times; for scope {self.scope!r} in this "
                f"network it must be {wanted.count(odd[0])}. Make a plan for this network: daar plan"
            )
        return {p.name: sorted(set(range(p.size)) - set(p.kept)) for p in self.groups}


def composed(first: Plan, second: Plan) -> Plan:
    """What two plans keep together, in numbers of the first's network.

    Args:
        first: of a network.
        second: of the slim network that the first leaves; what it does not list stays as it was.
    """
    later = {group.name: group.kept for group in second.groups}
    groups = tuple(
        PlannedGroup(g.name, g.size, tuple(g.kept[index] for index in later[g.name]) if g.name in later else g.kept)
        for g in first.groups
    )
    return replace(first, groups=groups)


def save(path: Path, plan: Plan) -> None:
    """Write plan.json."""
    write_json(path, to_json(plan))


def to_json(plan: Plan) -> dict[str, Any]:
    """The plan in the form of workflow/schemas/plan.schema.yaml; keys that say nothing are left out."""
    content = {"format": 1, **asdict(plan)}
    del content["target_of"], content["exclude"], content["repairs"], content["folded"]
    if plan.target_of != "macs":
        content["target_of"] = plan.target_of
    if plan.exclude:
        content["exclude"] = list(plan.exclude)
    if plan.repairs:
        content["repairs"] = plan.repairs.to_json()
    if plan.folded:
        content["folded"] = True
    return content


def from_json(content: Any, where: str) -> Plan:
    """Read the form of workflow/schemas/plan.schema.yaml; extra programs may have written it.

    Raises:
        InputError: it does not follow the schema; names the key.
    """
    validate(content, "plan", where, "See workflow/schemas/plan.schema.yaml.")
    groups: Sequence[dict[str, Any]] = content["groups"]
    return Plan(
        **{key: content[key] for key in ("method", "policy", "scope", "target", "macs_dense", "macs", "frozen")},
        groups=tuple(PlannedGroup(g["name"], g["size"], tuple(g["kept"])) for g in groups),
        round_to=content.get("round_to", 1),
        target_of=content.get("target_of", "macs"),
        exclude=tuple(content.get("exclude", ())),
        repairs=Repairs.from_json(content["repairs"]) if "repairs" in content else Repairs(),
        folded=content.get("folded", False),
    )


def load(path: Path) -> Plan:
    """Read plan.json."""
    return from_json(read_json(path, "a plan"), str(path))
