"""What tables, figures and the page call a row: one name each, which follows from method, policy and options.

"L1", "L1, adaptive rates", "DAAR (reconstructed)", "DAAR, attention spatial", "random, at DAAR's widths (control)". The
citation is in a key, not in each name. Imported while the DAG is built: neither torch nor numpy.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from daar.pruning import own_ratios
from daar.suite.definition import Suite, Variant

_CONTROL = " (control)"
_CITED = re.compile(r"(?P<name>.+?) \((?P<source>[^()]*\b\d{4})\)\Z")
_POLICIES = {
    **{"uniform": "uniform rates", "adaptive": "adaptive rates"},
    **{"global": "global threshold", "published": "published ratios"},
}
_CONTROLS = {"random_at": "random, at {}", "scratch_of": "from scratch, at {}"}
_BUDGETS = {None: "", "epochs": ", same epochs", "compute": ", same compute"}


@dataclass(frozen=True)
class Names:
    """The names of a suite's rows. What it does not know keeps the name that results.csv has.

    Attributes:
        variants: variant → its name without the policy; controls are marked.
        shorts: variant → how its name begins where the policy follows, if otherwise.
        policies: variant → its method's own policy, which a row's name leaves out.
        sources: name of a method → whose it is, as "Li et al. 2017".
    """

    variants: Mapping[str, str] = field(default_factory=dict)
    shorts: Mapping[str, str] = field(default_factory=dict)
    policies: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def variant(self, variant: str) -> str:
        """The name of what all policies share: the importance."""
        return self.variants.get(variant, variant)

    def row(self, variant: str, policy: str) -> str:
        """The name of a row."""
        if policy == self.policies.get(variant):
            return self.variant(variant)
        return _marked(self.shorts.get(variant, self.variant(variant)), f", {in_words(policy)}")

    @property
    def key(self) -> str:
        """Which papers the methods are from, in a sentence; blank where none is known."""
        listed = "; ".join(f"{name}: {source}" for name, source in self.sources.items())
        return f"Methods: {listed}." if listed else ""


def in_words(policy: str) -> str:
    """A policy in a row's name."""
    if own_ratios.is_own(policy):
        return f"ratios {policy.removeprefix(own_ratios.PREFIX)}"
    if policy.startswith("published-"):
        return f"published ratios {policy.removeprefix('published-')}"
    return _POLICIES.get(policy, f"{policy} policy")


def of_suite(suite: Suite) -> Names:
    """The names of a suite's rows, all different."""
    heads = {name: _split(str(method.info.get("title", name))) for name, method in suite.methods.items()}
    variants = {variant.name: _name(suite, variant, heads) for variant in suite.variants}
    used = [suite.origin(variant).method for variant in suite.variants]
    names = Names(
        variants,
        {v.name: _named(suite, v, _short(heads[v.method][0])) for v in suite.variants if _is_plain(v)},
        {variant.name: suite.methods[suite.origin(variant).method].policy for variant in suite.variants},
        {heads[method][0]: source for method in dict.fromkeys(used) if (source := heads[method][1])},
    )
    rows = {(setting.variant.name, setting.policy) for setting in suite.settings}
    counts = Counter(names.row(*row) for row in rows)
    alike = {variant for variant, policy in rows if counts[names.row(variant, policy)] > 1}
    told_apart = {
        variant.name: _marked(names.variant(variant.name), f" [{variant.name}]")
        for variant in suite.variants
        if variant.name in alike and variant.name != variant.method
    }
    return replace(names, variants={**variants, **told_apart}, shorts={**names.shorts, **told_apart})


def _split(title: str) -> tuple[str, str]:
    """A method's name and whose it is: "DAAR, reconstructed (Lian et al. 2025)" is named "DAAR (reconstructed)"."""
    cited = _CITED.match(title)
    name, source = (cited["name"], cited["source"]) if cited else (title, "")
    short, comma, what = name.partition(", ")
    return f"{short} ({what})" if comma else name, source


def _name(suite: Suite, variant: Variant, heads: Mapping[str, tuple[str, str]]) -> str:
    if variant.of is not None:
        origin = suite.variant(variant.of)
        short = _short(heads[origin.method][0])
        widths = f"{short}'s widths" if _is_plain(origin) else f"the widths of {_name(suite, origin, heads)}"
        budget = _BUDGETS[dict(variant.options).get("budget")]
        name = variant.title or _CONTROLS[variant.method].format(widths) + budget
        return _marked(name, _CONTROL)
    head = heads[variant.method][0]
    words = [head if _is_plain(variant) else _short(head)]
    words += [] if variant.schedule is None else [str(variant.schedule)]
    words += [_option(*option) for option in (*variant.options, *variant.policy_options)]
    return _named(suite, variant, variant.title or ", ".join(words))


def _named(suite: Suite, variant: Variant, name: str) -> str:
    """A name, marked where the method is a control."""
    return _marked(name, _CONTROL) if suite.methods[variant.method].info.get("control", False) else name


def _is_plain(variant: Variant) -> bool:
    """Whether it is a method as it is, under its own name."""
    changed = variant.title or variant.options or variant.policy_options or variant.schedule
    return variant.of is None and not changed


def _short(head: str) -> str:
    """A method's name without what is in brackets; the page or the figure says it once."""
    return head.partition(" (")[0]


def _option(option: str, value: Any) -> str:
    words = option.replace("_", " ")
    if isinstance(value, bool):
        return words if value else f"no {words}"
    return f"{words} {str(value).replace('_', ' ')}"


def _marked(name: str, mark: str) -> str:
    """A name with an addition; the mark of a control stays last."""
    control = name.endswith(_CONTROL)
    return name.removesuffix(_CONTROL) + mark.removesuffix(_CONTROL if control else "") + (_CONTROL if control else "")
