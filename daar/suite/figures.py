"""Which figures a suite has: decided by its file alone, so that the DAG can name them.

Imported while the DAG is built: neither torch nor numpy.
"""

from daar.methods import discovery
from daar.methods.discovery import Method
from daar.storage import files
from daar.suite.definition import Setting, Suite

# kind → its title; the report's caption is workflow/report/<kind>.rst
KINDS = {
    "accuracy-macs": "Accuracy and MACs",
    "differences": "Paired differences of accuracy",
    "accuracy-costs": "Accuracy, size and cost",
    "pruning-ratios": "Pruning ratios over depth",
    "tuning-curves": "Tuning curves",
    "rank-correlation": "Rank correlation between methods",
    "accuracy-latency": "Accuracy and latency",
}
# those and what rules of their own draw
TITLES = {**KINDS, "attention": "Attention pictures", "stability": "Images needed"}


def rule(kind: str) -> str:
    """Name of the rule that makes a kind of figure, and of its stage in daar/run/code.py."""
    return f"figure_{kind.replace('-', '_')}"


def controls(suite: Suite) -> tuple[str, ...]:
    """Its variants that are controls: those at another's widths, and those of methods that are."""
    return tuple(
        v.name for v in suite.variants if v.of is not None or suite.methods[v.method].info.get("control", False)
    )


def scored(suite: Suite) -> tuple[str, ...]:
    """Its variants that have an importance.safetensors for sure, by a score(); the first of those with equal scores.

    A schedule scores several times, other networks each time, and keeps no scores.
    """
    first: dict[str, str] = {}
    for variant in suite.variants:
        method = suite.methods[variant.method] if variant.of is None and variant.schedule is None else None
        if method is not None and method.scores is not None:
            options, _ = discovery.split_options(method, dict(variant.options))
            first.setdefault(files.digest([method.name, options]), variant.name)
    return tuple(first.values())


def kinds(suite: Suite) -> tuple[str, ...]:
    """The kinds of figures that every (dataset, network) of it has, as in `<dataset>-<network>-<kind>.svg`."""
    has = {
        "differences": _comparable(suite),
        "tuning-curves": suite.finetune.epochs > 0,
        "rank-correlation": len(scored(suite)) > 1,
        "accuracy-latency": suite.latency,
    }
    return tuple(kind for kind in KINDS if has.get(kind, True))


def _comparable(suite: Suite) -> bool:
    """Whether two rows share a target, one of them of a method and no control."""
    if not any(target is not None for target in suite.targets):
        return False
    grey = set(controls(suite))
    rows = {(s.variant.name, s.policy) for s in suite.settings if not s.policy.startswith("published")}
    return len(rows) > 1 and any(variant not in grey for variant, _ in rows)


def explained(suite: Suite) -> dict[tuple[str, str], Setting]:
    """The setting whose attention pictures each (dataset, network) has; none where no method has an explain().

    The first variant whose method has one, its own policy if the suite has it, the first seed and the first target.
    """
    explaining: dict[tuple[str, str], list[Setting]] = {}
    for setting in suite.settings:
        own = setting.variant.of is None and setting.variant.schedule is None
        if own and suite.methods[setting.variant.method].explains:
            explaining.setdefault((setting.dataset, setting.network), []).append(setting)
    return {pair: _preferred(settings, suite.methods) for pair, settings in explaining.items()}


def _preferred(settings: list[Setting], methods: dict[str, Method]) -> Setting:
    name, seed, target = settings[0].variant.name, settings[0].seed, settings[0].target
    first = [s for s in settings if (s.variant.name, s.seed, s.target) == (name, seed, target)]
    own = methods[settings[0].variant.method].policy
    return min(first, key=lambda setting: setting.policy != own)
