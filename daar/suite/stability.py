"""A suite's key `stability`: which importances are scored with how many calibration images.

Imported while the DAG is built: neither torch nor numpy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from daar.data import datasets
from daar.errors import InputError, unknown
from daar.methods.discovery import Method


@dataclass(frozen=True)
class Stability:
    """How many calibration images an importance needs.

    Attributes:
        images: counts, as in the file.
        variants: by name; the suite's data-driven ones by default.
        seeds: of the calibration images.
        macs_reduction: fraction of the dense MACs removed at uniform widths, for the kept sets.
    """

    images: tuple[int, ...]
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    macs_reduction: float

    @property
    def scored_images(self) -> int:
        """How many images a variant's scores see in all draws together."""
        return len(self.seeds) * sum(self.images)


def from_entry(
    entry: Mapping[str, Any],
    scored: Mapping[str, Method],
    names: Sequence[str],
    where: str,
) -> Stability:
    """Make it of the suite's entry, of valid form.

    Args:
        entry: the value of `stability`.
        scored: variant → its method, without the controls that take another's plan.
        names: of the suite's datasets.
        where: it comes from, for messages.

    Raises:
        InputError: a variant that is none or has no score(), no data-driven variant, or more images than a train part.
    """
    fit = {name: method for name, method in scored.items() if method.scores is not None}
    driven = [name for name, method in fit.items() if "images" in method.info.get("uses", ())]
    chosen = tuple(entry.get("variants", driven))
    for name in chosen:
        if name not in fit:
            raise unknown(f"variant in {where}: stability.variants", name, list(fit))
    if not chosen:
        raise InputError(
            f"{where}: stability: no variant of the suite uses images. Name ones that do, or delete the key."
        )
    for name in names:
        most, train = max(entry["images"]), datasets.get(name).train
        if most > train:
            raise InputError(
                f"{where}: stability.images has {most}; {name} has {train:,} train images. Give {train} or less."
            )
    seeds = tuple(range(entry.get("seeds", 5)))
    return Stability(tuple(entry["images"]), chosen, seeds, entry.get("macs_reduction", 0.5))
