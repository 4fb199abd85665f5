"""All checks of a method or policy, by name, and what came of them."""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

from daar.api import InputError
from daar.conformance import files, plans, scores, subject
from daar.conformance.subject import BreachError
from daar.errors import in_one_line, is_out_of_memory, said
from daar.methods.discovery import Method


class Check(NamedTuple):
    """One thing that must hold.

    Attributes:
        name: words with hyphens, as tests are named.
        run: raises BreachError, or InputError, where it does not.
        needs: without what it means nothing: "scores", or scores of the right "form"; NaN is never the same twice.
    """

    name: str
    run: Callable[[Method], object]
    needs: str = ""


class Outcome(NamedTuple):
    """What came of a check.

    Attributes:
        check: the one.
        problem: None, or what was expected, what was got and how to pass, in one line.
        skipped: whether it was not run, as it needs what FORM has found missing.
    """

    check: Check
    problem: str | None
    skipped: bool = False


_FILES = (
    Check("metadata", files.metadata),
    Check("documentation", files.documentation),
    Check("bibliography", files.bibliography),
    Check("imports", files.imports),
)
_RULE = Check("rule", files.rule)
FORM = Check("scores-have-the-right-form", scores.form)
# of a check that compares scores with each other, or with what else a method says
_of_form = functools.partial(Check, needs="form")
_of_scores = functools.partial(Check, needs="scores")
_RETURNED = Check("scores-are-returned", subject.score)  # a part of FORM, no check of its own
_SCORES = (
    FORM,
    _of_scores("scores-of-the-layers-asked-for", scores.asked),
    _of_form("scores-are-deterministic", scores.deterministic),
    *(_of_form(f"scores-under-{mode}", functools.partial(scores.in_mode, mode=mode)) for mode in scores.MODES),
    *(
        _of_form(f"labels-{which.replace(' ', '-')}", functools.partial(scores.without_labels, which=which))
        for which in scores.ABSENT
    ),
    _of_scores("all-left-alone-in-eval-mode", functools.partial(scores.left_alone, training=False)),
    _of_scores("all-left-alone-in-training-mode", functools.partial(scores.left_alone, training=True)),
    *(
        _of_form(f"scores-and-{what}", functools.partial(scores.depends, what=what))
        for what in ("weights", "images", "labels")
    ),
    _of_form("another-seed", scores.seeded),
    *(
        _of_form(f"filters-reordered-in-{block}", functools.partial(scores.permuted, block=block))
        for block in scores.BLOCKS
    ),
)
_EXPLAIN = _of_form("explain-is-what-it-scores-by", scores.explained)
_PLANS = tuple(
    _of_form(f"plan-for-{reduction}", functools.partial(plans.held, reduction=reduction))
    for reduction in plans.REDUCTIONS
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
    """Run all checks of a method, one after the other; torch keeps its number of threads.

    Where scores have not the right form, checks that need it are skipped; where there are none, all that need any.
    """
    missing: set[str] = set()
    for check in of(method):
        if check.needs in missing:
            yield Outcome(check, None, skipped=True)
            continue
        found = problem(check, method)
        if check == FORM and found is not None:
            missing = {"form"} if problem(_RETURNED, method) is None else {"form", "scores"}
        yield Outcome(check, found)


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
