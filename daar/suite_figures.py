"""Which figures a suite has: decided by its file alone, so that the DAG can name them.

Imported while the DAG is built: neither torch nor numpy.
"""

from daar import discovery
from daar.suite import Suite


def controls(suite: Suite) -> tuple[str, ...]:
    """Its variants that are controls: those at another's widths, and those of methods that are."""
    methods = discovery.find(suite.methods_dirs)
    return tuple(v.name for v in suite.variants if v.of is not None or methods[v.method].info.get("control", False))


def scored(suite: Suite) -> tuple[str, ...]:
    """Its variants that have an importance.safetensors for sure: those of methods with a score()."""
    methods = discovery.find(suite.methods_dirs)
    return tuple(v.name for v in suite.variants if v.of is None and methods[v.method].scores is not None)


def kinds(suite: Suite) -> tuple[str, ...]:
    """The kinds of figures that every (dataset, network) of it has, as in `<dataset>-<network>-<kind>.svg`."""
    wanted = {
        "accuracy-macs": True,
        "pruning-ratios": True,
        "tuning-curves": suite.finetune.epochs > 0,
        "rank-correlation": len(scored(suite)) > 1,
        "accuracy-latency": suite.latency,
    }
    return tuple(kind for kind, there in wanted.items() if there)
