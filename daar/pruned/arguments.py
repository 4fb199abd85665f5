"""Arguments of `daar.prune`: each of its type, and one target."""

import numbers
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from daar.errors import InputError, in_one_line
from daar.pruning import own_ratios, policies
from daar.pruning.plan import SCOPES


class Unsaid(float):
    """A default that another argument replaces: that it was left out can be told from the same number given."""


# argument → its types, and what it must be
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "macs_reduction": ((numbers.Real, NoneType), "a number, or None for the policy's own rate"),
    "params_reduction": ((numbers.Real, NoneType), "a number: the fraction of the parameters to remove"),
    "latency_reduction": ((numbers.Real, NoneType), "a number: the fraction of the time of a batch to save"),
    "policy": ((str, NoneType), "a policy's name, or None for the method's own"),
    "options": ((Mapping, NoneType), "a mapping, name → value"),
    "policy_options": ((Mapping, NoneType), "a mapping, name → value"),
    "min_channels": ((numbers.Integral,), "an integer"),
    "round_to": ((numbers.Integral,), "an integer"),
    "calibration_images": ((numbers.Integral,), "an integer"),
    "rounds": ((numbers.Integral,), "an integer"),
    "seed": ((numbers.Integral,), "an integer"),
    "fold": ((bool,), "True or False"),
    "strict": ((bool,), "True or False"),
}


def check_types(**given: Any) -> None:
    """InputError if an argument has the wrong type; numpy's numbers count as Python's."""
    for name, value in given.items():
        types, what = _TYPES[name]
        fits = isinstance(value, types) and (types == (bool,) or not isinstance(value, bool))
        if not fits or (isinstance(value, Mapping) and not all(isinstance(key, str) for key in value)):
            raise InputError(f"{name} is {_shown(value)}; it must be {what}.")


def check_at_least(least: int, **given: int) -> None:
    """InputError if one of these integers is lower."""
    for name, value in given.items():
        if value < least:
            raise InputError(f"{name} is {value}; it must be {least} or more.")


def check_method(method: Any) -> None:
    """InputError unless it is a name, or a function."""
    if not isinstance(method, (str, Callable)):  # type: ignore[arg-type]  # isinstance takes it
        raise InputError(
            f"method is {_shown(method)}; it must be a method's name, or a function score(model, batch, layers)."
        )


def check_rate(policy: str, target: float | None, *, ratios: bool) -> None:
    """InputError if neither a target nor the policy says how much goes."""
    if target is None and not ratios and policy in policies.OWN:
        raise InputError(
            f"policy {policy!r} has no rate of its own. Give a macs_reduction in [0, 1), not None, or another target."
        )


def check_scope(scope: Any) -> None:
    """InputError unless it is one of SCOPES."""
    if scope not in SCOPES:
        raise InputError(f"scope is {_shown(scope)}; it is one of: {', '.join(SCOPES)}.")


def check_ratios(ratios: Any) -> own_ratios.Spec | None:
    """Own ratios, with plain floats for numpy's numbers; None where there are none."""
    if ratios is None:
        return None
    if isinstance(ratios, Mapping):
        ratios = {
            key: float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else value
            for key, value in ratios.items()
        }
    return own_ratios.check(ratios)


def one_target(
    macs: float | None, params: float | None, latency: float | None, ratios: own_ratios.Spec | None
) -> tuple[str, float | None]:
    """What is to be reduced, `macs`, `params` or `latency`, and by which fraction; None for the policy's own rate.

    Raises:
        InputError: several are given, or a fraction is out of range.
    """
    targets = {"macs": None if isinstance(macs, Unsaid) else macs, "params": params, "latency": latency}
    given = {kind: float(value) for kind, value in targets.items() if value is not None}
    named = [*(f"{kind}_reduction" for kind in given), *([] if ratios is None else ["ratios"])]
    if len(named) > 1:
        raise InputError(f"{' and '.join(named)} are given; each says how much goes. Give one of them.")
    for kind, value in given.items():
        if not 0 <= value < 1:
            what = {"macs": "MACs", "params": "parameters", "latency": "the time of a batch"}[kind]
            raise InputError(f"{kind}_reduction is {value}; it must lie in [0, 1), as the fraction of {what} removed.")
        return kind, value
    return "macs", float(macs) if isinstance(macs, Unsaid) and ratios is None else None


def all_of(values: Any, types: tuple[type, ...], name: str) -> tuple[Any, ...]:
    """The values as a tuple; InputError if they are none of these types, or a text, whose characters are no names."""
    several = isinstance(values, Iterable) and not isinstance(values, (str, bytes, Mapping))
    listed = tuple(values) if several else ()
    if not several or not all(isinstance(value, types) for value in listed):
        raise InputError(f"{name} is {_shown(values)}; it must be a list of texts, such as [{str(values)[:50]!r}].")
    return listed


def folders(values: Any) -> tuple[Path, ...]:
    """Further folders of methods."""
    return tuple(map(Path, all_of(values, (str, Path), "methods_dirs")))


def _shown(value: Any) -> str:
    return in_one_line(repr(value), 100)
