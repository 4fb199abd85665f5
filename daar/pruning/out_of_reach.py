"""Why a target cannot be reached, and what to do: nothing that was done already, and each with how far it reaches."""

from dataclasses import dataclass, replace

from daar.pruning import limits
from daar.pruning.groups import MIN_CHANNELS, ChannelGraph
from daar.pruning.plan import SCOPES
from daar.pruning.policy import Macs
from daar.pruning.reach import fewest, reasons
from daar.pruning.target import closest

# what gains no more than this is not named
_GAIN = 0.001


@dataclass(frozen=True)
class Asked:
    """What a plan was asked for, but for its target.

    Attributes:
        graph: the dense network's groups.
        scope: one of SCOPES.
        least: the fewest filters that a layer keeps.
        cost: MACs or parameters for given counts.
        of: what they are, `macs` or `params`.
        round_to: multiples of channels that stay.
    """

    graph: ChannelGraph
    scope: str
    least: int
    cost: Macs
    of: str
    round_to: int = 1

    @property
    def unit(self) -> str:
        """What the cost counts."""
        return "MACs" if self.of == "macs" else "parameters"

    def closest(self, scope: str | None = None, least: int | None = None) -> float:
        """The largest target that every policy of ours meets, here or in another scope or with fewer filters."""
        least = self.least if least is None else least
        return closest(fewest(self.graph, scope or self.scope, self.cost, least, self.round_to), self.cost({}))


def too_much(asked: Asked, budget: int) -> str:
    """Of a target below what every group at its least leaves.

    Args:
        asked: but for the target.
        budget: the most that the target allows.
    """
    most = asked.closest()
    smaller = [f"a smaller {asked.of}_reduction"] if most else []
    return (
        f"a target of {budget:,} {asked.unit} cannot be reached: the closest {asked.of}_reduction is {most:.3f} in "
        f"scope {asked.scope!r}. {_what_stays(asked)} {_take([*smaller, *_further(asked, most)])}"
    )


def nothing_in(asked: Asked) -> str:
    """Of a scope without groups."""
    if not asked.graph.layers:
        return "no group of this network may be pruned: it runs no conv and no linear layer. Choose another network."
    return (
        f"no group of this network may be pruned in scope {asked.scope!r}. {_what_stays(asked)} "
        f"{_take(_further(asked, 0.0))}"
    )


def beyond_policy(asked: Asked, policy: str, left: int, budget: int) -> str:
    """Of a target that the groups can meet, and a policy cannot.

    Args:
        asked: but for the target.
        policy: its name.
        left: the least that it leaves.
        budget: the most that the target allows.
    """
    most = closest(left, asked.cost({}))
    smaller = [f"a {asked.of}_reduction of {most:.3f} or less"] if most else []
    other = f"another policy: of these groups up to {asked.closest():.3f} can go"
    return (
        f"policy {policy!r} cannot reach the target: the fewest {asked.unit} that it leaves are {left:,}, and "
        f"{budget:,} or fewer were asked for. {_take([*smaller, other])}"
    )


def _what_stays(asked: Asked) -> str:
    kept = "; ".join(reasons(asked.graph, asked.scope))
    said = [f"What holds it back, by the layers' share of the MACs: {kept}."] if kept else []
    groups = asked.graph.in_scope(asked.scope)
    held = sum(limits.holds(group) for group in groups)
    if not (kept or held) or asked.least > MIN_CHANNELS or asked.of != "macs":
        said.append(f"Each layer keeps at least {asked.least} filters and 5 %.")
    if held:
        said.append(f"max_ratio holds back {held} of {len(groups)} groups.")
    return " ".join(said)


def _further(asked: Asked, most: float) -> list[str]:
    """What reaches more: the narrowest scope of each reach, and fewer filters.

    Where a layer reads a part of a group, the MACs depend on which channels stay, and those are chosen again.
    """
    found, reached = [], most
    in_parts = (len(part) < group.size for group in asked.graph.groups for part, _ in group.reserves)
    about = "about " if any(in_parts) else ""
    for wider in SCOPES[SCOPES.index(asked.scope) + 1 :]:
        if (more := asked.closest(scope=wider)) > reached + _GAIN:
            # neither suites nor commands have that scope
            of = " of daar.prune" if wider == "units" else ""
            found.append(f"scope {wider!r}{of}, which reaches {about}{more:.3f}")
            reached = more
    if asked.least > MIN_CHANNELS and (more := asked.closest(least=MIN_CHANNELS)) > most + _GAIN:
        found.append(f"a smaller min_channels, with which {about}{more:.3f} is reached")
    if (more := replace(asked, graph=limits.free(asked.graph)).closest()) > most + _GAIN:
        found.append(f"a larger max_ratio, with which up to {about}{more:.3f} is reached")
    return found


def _take(ways: list[str]) -> str:
    return f"Take {', or '.join(ways)}." if ways else "No setting removes more: choose another network."
