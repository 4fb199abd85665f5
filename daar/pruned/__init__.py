"""Prune any CNN that runs: `daar.prune(model, images, macs_reduction=0.5)`, and what comes before and after it.

The suite's stages do the same from files, for networks of its registry.
"""

from daar.pruned.folder import load, load_plan, save
from daar.pruned.gradually import prune_gradually
from daar.pruned.listing import groups
from daar.pruned.once import prune
from daar.pruned.result import Pruned, slim_by
from daar.pruned.timing import latency

__all__ = ["Pruned", "groups", "latency", "load", "load_plan", "prune", "prune_gradually", "save", "slim_by"]
