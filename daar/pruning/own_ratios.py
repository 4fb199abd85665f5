"""Pruning ratios of one's own as a policy: by glob patterns, or one for each conv in a paper's notation.

{"layer3.*": 0.5, "stem": 0} or "[0.]+[0.18]*29+[0.3, 0]*12". Imported while the DAG is built: neither torch nor numpy.
"""

import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from daar.errors import InputError, in_one_line
from daar.pruning.patterns import matches, nothing_matches, specificity
from daar.pruning.policy import Counts, Policy
from daar.storage.files import digest

if TYPE_CHECKING:
    from daar.pruning.groups import Group
    from daar.pruning.importance import Importance

# pattern → fraction of the filters removed, or a ratio for each conv as text
Spec = Mapping[str, float] | str

PREFIX = "ratios-"
_TERM = re.compile(r"\[([^\[\]]*)\](?:\*(\d{1,4}))?\Z")
# convs; more than any network has
_MOST = 10_000


def name(spec: Spec) -> str:
    """What paths and records call these ratios: others have another name."""
    content: Any = spec.replace(" ", "") if isinstance(spec, str) else {key: float(spec[key]) for key in sorted(spec)}
    return f"{PREFIX}{digest(content)[:8]}"


def is_own(policy: str) -> bool:
    """Whether a policy's name is that of own ratios."""
    return policy.startswith(PREFIX)


def check(spec: Any, where: str = "ratios") -> Spec:
    """Return ratios that can be; `where` begins the message.

    Raises:
        InputError: it is neither a mapping of patterns to numbers in [0, 1) nor a paper's notation.
    """
    if isinstance(spec, str):
        in_order(spec, where)
        return spec
    if not isinstance(spec, Mapping) or not spec:
        raise InputError(
            f"{where} should map glob patterns to fractions of filters to remove, such as {{'layer3.*': 0.5}}, or be "
            f"a paper's text, such as '[0.]+[0.5]*12'; got {in_one_line(repr(spec), 80)}. Correct it."
        )
    for pattern, ratio in spec.items():
        if not isinstance(pattern, str) or not pattern:
            raise InputError(f"{where} has the pattern {pattern!r}; it must be the name of a module. Correct it.")
        _fraction(ratio, f"{where}[{pattern!r}]")
    return spec


def in_order(text: str, where: str = "ratios") -> tuple[Fraction, ...]:
    """The ratios of a paper's notation, one for each conv.

    Raises:
        InputError: it is no such text.
    """
    ratios: list[Fraction] = []
    for part in text.replace(" ", "").split("+"):
        term = _TERM.match(part)
        if term is None or len(ratios) > _MOST:
            raise InputError(
                f"{where} has the part {in_one_line(part, 40)!r}; a paper's text is lists joined by +, each with how "
                "often it comes, such as '[0.]+[0.18]*29+[0.3, 0]*12'. Correct it."
            )
        listed = [_fraction(ratio, where) for ratio in term[1].split(",")]
        ratios += listed * int(term[2] or 1)
    return tuple(ratios)


def _fraction(ratio: Any, where: str) -> Fraction:
    try:
        value = Fraction(str(ratio).rstrip("."))  # as written: 0.7 of a width is a whole number only in decimals
    except (ValueError, ZeroDivisionError):
        value = Fraction(-1)
    if isinstance(ratio, bool) or not 0 <= value < 1:
        raise InputError(
            f"{where} is {in_one_line(str(ratio), 40)}; it must lie in [0, 1), as the fraction of filters removed."
        )
    return value


def policy(spec: Spec, convs: Sequence[str], units: Sequence[str], whole: Mapping[str, str]) -> Policy:
    """Ratios bound to a network: a group takes the mean ratio of those of its layers that are named.

    A layer that several patterns match takes the one with the most characters that are no wildcards. What is named by
    none stays whole. Counts are rounded down, so that at least the fraction goes, as far as a group's minimum allows.

    Args:
        spec: the ratios.
        convs: of the network, in the order of execution; a paper's text has a ratio for each.
        units: its linear layers, which patterns can name too.
        whole: conv or linear layer → why its group stays whole.

    Raises:
        InputError: the text has another number of ratios than there are convs, or a pattern matches none that may be
            pruned.
    """
    ratio_of = _by_place(spec, convs) if isinstance(spec, str) else _by_pattern(spec, [*convs, *units], whole)

    def plan(groups: "Sequence[Group]", _: "Importance", macs_target: int | None, **__: Any) -> Counts:
        if macs_target is not None:
            raise InputError(no_target())
        counts = {}
        for group in groups:
            named = [ratio_of[member] for member in group.members if member in ratio_of]
            ratio = sum(named) / Fraction(len(named)) if named else Fraction(0)
            counts[group.name] = max(group.min_kept, math.floor(group.size * (1 - ratio)))
        return counts

    return plan


def no_target() -> str:
    """Why own ratios take no target, a sentence."""
    return "ratios say how much goes. Leave the target out (in a suite: macs_reductions: [null]), or the ratios."


def _by_place(text: str, convs: Sequence[str]) -> dict[str, Fraction]:
    ratios = in_order(text)
    if len(ratios) != len(convs):
        raise InputError(
            f"ratios has {len(ratios)} values; the network runs {len(convs)} convs, in the order "
            f"{', '.join(convs[:3])} …, and each takes one. Give as many, or patterns: {{'layer3.*': 0.5}}."
        )
    return dict(zip(convs, ratios, strict=True))


def _by_pattern(spec: Mapping[str, float], layers: Sequence[str], whole: Mapping[str, str]) -> dict[str, Fraction]:
    found: dict[str, list[str]] = {}
    for pattern in spec:
        matched = [layer for layer in layers if matches(pattern, layer)]
        if not matched:
            raise nothing_matches("ratios", pattern, _with_parents(layers), "layer with filters of its own")
        if all(layer in whole for layer in matched) and _fraction(spec[pattern], "ratios"):
            raise InputError(
                f"ratios names {pattern!r}, but all of it stays whole: {matched[0]} {whole[matched[0]]}. Take the "
                "pattern out."
            )
        for layer in matched:
            found.setdefault(layer, []).append(pattern)
    return {layer: _most_specific(layer, patterns, spec) for layer, patterns in found.items()}


def _most_specific(layer: str, patterns: list[str], spec: Mapping[str, float]) -> Fraction:
    most = max(map(specificity, patterns))
    best = [pattern for pattern in patterns if specificity(pattern) == most]
    if len({_fraction(spec[pattern], "ratios") for pattern in best}) > 1:
        raise InputError(
            f"ratios names {layer!r} by {best[0]!r} and {best[1]!r}, with different fractions. Make one more specific."
        )
    return _fraction(spec[best[0]], "ratios")


def _with_parents(layers: Sequence[str]) -> list[str]:
    parents = {".".join(layer.split(".")[:size]): None for layer in layers for size in range(1, layer.count(".") + 1)}
    return [*layers, *parents]
