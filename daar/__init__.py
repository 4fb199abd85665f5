"""Daar: a reproducible benchmark suite for CNN filter pruning.

`daar.prune(model, images, macs_reduction=0.5)` prunes a CNN of your own. Importing this imports nothing heavy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daar.pruned import Pruned, groups, latency, load, load_plan, prune, prune_gradually, save, slim_by

RESULT_NEUTRAL = "lazy names for users of the package"
__all__ = ["Pruned", "groups", "latency", "load", "load_plan", "prune", "prune_gradually", "save", "slim_by"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in __all__:
        from daar import pruned

        return getattr(pruned, name)
    raise AttributeError(f"module 'daar' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
