"""What a policy is given beyond its target: its options, whosever scores it plans with, and the shapes of the layers.

Imported while the DAG is built: neither torch nor numpy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from daar.errors import InputError
from daar.methods import discovery, planners
from daar.methods.discovery import Method
from daar.methods.signatures import Allowed
from daar.pruning import own_ratios, policies

RESULT_NEUTRAL = "hands arguments on; they are settings of the stage"
Shapes = dict[str, tuple[int, ...]]


def as_own(
    method: Method,
    options: Mapping[str, Any],
    policy: str,
    policy_options: Mapping[str, Any],
    shapes: Callable[[], Shapes],
    extra: Sequence[Path] = (),
) -> tuple[Method, dict[str, Any]]:
    """A method and options as planning takes them: as if the policy, with all that it is given, were the method's own.

    Args:
        method: whose scores.
        options: of the variant; those of the method's plan() count where the policy is its own.
        policy: name of the policy.
        policy_options: of the policy, whosever it is; they go before `options`.
        shapes: gives layer → shape of its weight; asked where the policy reads them.
        extra: further folders of methods and policies.

    Raises:
        InputError: the policy has no such option, or it does not take that value; or the method has none of `options`.
    """
    check(policy, policy_options, extra)
    brought, given = planners.find(extra).get(policy), layers_for(policy, shapes, extra)
    if brought is None or not (policy_options or given):
        return method, dict(options)
    own = method.plans is not None and method.policy == policy
    chosen = discovery.split_options(method, dict(options))[1] if own else {}
    allowed = {**(brought.plans or {}), **dict.fromkeys(given, Allowed(anything=True))}
    info = {**method.info, "policy": policy}
    return replace(method, info=info, scores={}, plans=allowed), {**chosen, **given, **policy_options}


def layers_for(policy: str, shapes: Callable[[], Shapes], extra: Sequence[Path] = ()) -> dict[str, Shapes]:
    """What a policy is given of the network's layers: {"shapes": …} where it reads them, else nothing.

    Arguments as of `as_own`.
    """
    brought = planners.find(extra).get(policy)
    return {"shapes": shapes()} if brought is not None and "shapes" in brought.given else {}


def check(policy: str, given: Mapping[str, Any], extra: Sequence[Path] = ()) -> None:
    """Compare options with those that a policy has.

    Raises:
        InputError: it has no such option, or it does not take that value; lists what there is.
    """
    if given and own_ratios.is_own(policy):
        raise InputError(f"own ratios take no options, got {next(iter(given))!r}. Take policy_options out.")
    policies.check_options(policy, given, extra)
