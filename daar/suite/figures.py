"""Which figures a suite has: decided by its file alone, so that the DAG can name them.

Imported while the DAG is built: neither torch nor numpy.
"""

from collections.abc import Callable

from daar.methods import discovery
from daar.methods.discovery import Method
from daar.storage import files
from daar.suite.definition import Setting, Suite


def controls(suite: Suite) -> tuple[str, ...]:
    """Its variants that are controls: those at another's widths, and those of methods that are."""
    methods = discovery.find(suite.methods_dirs)
    return tuple(v.name for v in suite.variants if v.of is not None or methods[v.method].info.get("control", False))


def scored(suite: Suite) -> tuple[str, ...]:
    """Its variants that have an importance.safetensors for sure, by a score(); the first of those with equal scores."""
    methods = discovery.find(suite.methods_dirs)
    first: dict[str, str] = {}
    for variant in suite.variants:
        method = methods[variant.method] if variant.of is None else None
        if method is not None and method.scores is not None:
            options, _ = discovery.split_options(method, dict(variant.options))
            first.setdefault(files.digest([method.name, options]), variant.name)
    return tuple(first.values())


# kind → whether a suite has it
_CONDITIONS: dict[str, Callable[[Suite], bool]] = {
    "accuracy-macs": lambda _: True,
    "pruning-ratios": lambda _: True,
    "tuning-curves": lambda suite: suite.finetune.epochs > 0,
    "rank-correlation": lambda suite: len(scored(suite)) > 1,
    "accuracy-latency": lambda suite: suite.latency,
}
KINDS = tuple(_CONDITIONS)


def kinds(suite: Suite) -> tuple[str, ...]:
    """The kinds of figures that every (dataset, network) of it has, as in `<dataset>-<network>-<kind>.svg`."""
    return tuple(kind for kind, has in _CONDITIONS.items() if has(suite))


def explained(suite: Suite) -> dict[tuple[str, str], Setting]:
    """The setting whose attention pictures each (dataset, network) has; none where no method has an explain().

    The first variant whose method has one, its own policy if the suite has it, the first seed and the first target.
    """
    methods = discovery.find(suite.methods_dirs)
    explaining: dict[tuple[str, str], list[Setting]] = {}
    for setting in suite.settings:
        if setting.variant.of is None and methods[setting.variant.method].explains:
            explaining.setdefault((setting.dataset, setting.network), []).append(setting)
    return {pair: _preferred(settings, methods) for pair, settings in explaining.items()}


def _preferred(settings: list[Setting], methods: dict[str, Method]) -> Setting:
    name, seed, target = settings[0].variant.name, settings[0].seed, settings[0].target
    first = [s for s in settings if (s.variant.name, s.seed, s.target) == (name, seed, target)]
    own = methods[settings[0].variant.method].policy
    return min(first, key=lambda setting: setting.policy != own)
