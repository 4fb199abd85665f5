"""All checks of a method or policy, by name, and what came of them."""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

from daar.api import InputError
from daar.conformance import files, plans, scores
from daar.conformance.subject import BreachError
from daar.errors import in_one_line, is_out_of_memory, said
from daar.methods.discovery import Method


class Check(NamedTuple):
    """One thing that must hold.

    Attributes:
        name: words with hyphens, as tests are named.
        run: raises BreachError, or InputError, where it does not.
    """

    name: str
    run: Callable[[Method], None]


class Outcome(NamedTuple):
    """What came of a check: None, or what was expected, what was got and how to pass, in one line."""

    check: Check
    problem: str | None


_FILES = (
    Check("metadata", files.metadata),
    Check("documentation", files.documentation),
    Check("bibliography", files.bibliography),
    Check("imports", files.imports),
)
_RULE = Check("rule", files.rule)
_SCORES = (
    Check("scores-have-the-right-form", scores.form),
    Check("scores-of-the-layers-asked-for", scores.asked),
    Check("scores-are-deterministic", scores.deterministic),
    *(Check(f"scores-under-{mode}", functools.partial(scores.in_mode, mode=mode)) for mode in scores.MODES),
    *(
        Check(f"labels-{which.replace(' ', '-')}", functools.partial(scores.without_labels, which=which))
        for which in scores.ABSENT
    ),
    Check("all-left-alone-in-eval-mode", functools.partial(scores.left_alone, training=False)),
    Check("all-left-alone-in-training-mode", functools.partial(scores.left_alone, training=True)),
    *(
        Check(f"scores-and-{what}", functools.partial(scores.depends, what=what))
        for what in ("weights", "images", "labels")
    ),
    Check("another-seed", scores.seeded),
    *(
        Check(f"filters-reordered-in-{block}", functools.partial(scores.permuted, block=block))
        for block in scores.BLOCKS
    ),
)
_EXPLAIN = Check("explain-is-what-it-scores-by", scores.explained)
_PLANS = tuple(
    Check(f"plan-for-{reduction}", functools.partial(plans.held, reduction=reduction)) for reduction in plans.REDUCTIONS
)


def of(method: Method) -> list[Check]:
    """The checks that a method, or a policy without a method, has to pass."""
    scored = files.is_scorer(method)
    found = [check for check in _FILES if scored or method.is_policy or check.name != "documentation"]
    found += [] if method.is_policy else [_RULE]
    found += _SCORES if scored else ()
    found += [_EXPLAIN] if method.explains else []
    return [*found, *(_PLANS if method.plans is not None else ())]


def outcomes(method: Method) -> Iterator[Outcome]:
    """Run all checks of a method, one after the other; torch keeps its number of threads."""
    for check in of(method):
        yield Outcome(check, problem(check, method))


def problem(check: Check, method: Method) -> str | None:
    """Run one check: None, or what was expected, what was got and how to pass, in one line."""
    try:
        check.run(method)
    except BreachError as error:
        return str(error)
    except InputError as error:
        return in_one_line(str(error), 500)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return f"expected no exception; got {type(error).__name__}: {in_one_line(said(error), 300)}. Mend it."
    return None
