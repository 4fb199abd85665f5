"""What tables say that results.csv does not hold: the names of its rows, the suite's recipes and methods."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from daar.methods import discovery
from daar.suite import names
from daar.suite.definition import MACS_POINTS, Suite
from daar.suite.names import Names
from daar.training.recipe import Recipe


@dataclass(frozen=True)
class Context:
    """What tables take from the suite. Where something is missing, they say what results.csv holds.

    Attributes:
        names: of the rows.
        train: recipe of the dense networks.
        finetune: recipe of every pruned network.
        defaults: method → option → its value where a variant names none.
        sees_images: the variants whose scores are computed from calibration images.
        round_to: each group keeps a multiple of this many channels, or all.
        macs_points: how far the MACs removed of one target's rows may be apart, in points of the dense count.
        own_program: the variants whose importance comes from a program of its own; what that costs is not known.
    """

    names: Names = field(default_factory=Names)
    train: Recipe | None = None
    finetune: Recipe | None = None
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sees_images: frozenset[str] = frozenset()
    own_program: frozenset[str] = frozenset()
    round_to: int = 1
    macs_points: float = MACS_POINTS


def of_suite(suite: Suite) -> Context:
    """The context of a suite's tables."""
    methods = discovery.find(suite.methods_dirs)
    scored = {variant.name: methods[variant.method] for variant in suite.variants if variant.of is None}
    return Context(
        names=names.of_suite(suite),
        train=suite.train,
        finetune=suite.finetune,
        defaults={name: method.defaults for name, method in methods.items()},
        sees_images=frozenset(name for name, method in scored.items() if "images" in method.info.get("uses", ())),
        own_program=frozenset(name for name, method in scored.items() if method.scores is None),
        round_to=suite.round_to,
        macs_points=suite.macs_points,
    )
