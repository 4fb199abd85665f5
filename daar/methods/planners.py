"""The policies that folders bring: a method's plan(), or a policy without a method. Imported while the DAG is built.

What a policy is, see daar/pruning/policy.py.
"""

from collections.abc import Sequence
from pathlib import Path

from daar.errors import InputError
from daar.methods import discovery
from daar.methods.discovery import Method

RESULT_NEUTRAL = "finds policies; the file of the policy itself counts"
# names of daar's own, and the beginnings of those of papers' ratios and of ratios of one's own
_TAKEN, _PREFIXES = ("uniform", "global"), ("published-", "ratios-")


def find(extra: Sequence[Path] = ()) -> dict[str, Method]:
    """Name of the policy → the folder that brings it, sorted; `extra` as of `discovery.find`.

    Raises:
        InputError: two bring a policy of one name, or one has a name of daar's own.
    """
    brought: dict[str, Method] = {}
    for one in [*discovery.find(extra).values(), *discovery.find_policies(extra).values()]:
        if one.plans is None:
            continue
        if is_taken(one.policy):
            raise InputError(
                f"{one.code} has a plan(), whose policy is named {one.policy!r}, as one of daar's own is. Give it "
                f"another name{'' if one.is_policy else ', as INFO.policy'}."
            )
        if (other := brought.setdefault(one.policy, one)) is not one:
            raise InputError(f"two policies are named {one.policy!r}: {other.code} and {one.code}. Rename one.")
    return dict(sorted(brought.items()))


def is_taken(name: str) -> bool:
    """Whether a policy of daar's own has that name, or one that begins so."""
    return name in _TAKEN or name.startswith(_PREFIXES)


def measuring(extra: Sequence[Path] = ()) -> list[str]:
    """Names of the policies that read the calibration loss, sorted."""
    return [name for name, one in find(extra).items() if "loss" in one.given]
