"""The files that lie beside a results.csv, in the folders of its settings: plans, importances, records."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from daar.report.fairness import own_ratios
from daar.suite.definition import setting_path


class Place(NamedTuple):
    """A setting of results.csv and its folder.

    Attributes:
        dataset: by name.
        network: by name.
        seed: of the setting.
        variant: in the suite.
        policy: by name.
        target: fraction of MACs to be removed; None for ratios of its own, which no target makes comparable.
        folder: of the setting; `folder.parent` is that of the variant.
    """

    dataset: str
    network: str
    seed: int
    variant: str
    policy: str
    target: float | None
    folder: Path


def places(results: Path, frame: pd.DataFrame) -> Iterator[Place]:
    """Where the settings of some rows have their files.

    Args:
        results: the results.csv.
        frame: rows of it.
    """
    keys = ["dataset", "network", "seed", "variant", "policy", "scope", "target"]
    for setting, own in zip(frame[keys].itertuples(index=False), own_ratios(frame), strict=True):
        dataset, network, seed, variant, policy, scope, asked = setting
        target = None if pd.isna(asked) else float(asked)
        folder = Path(results).parent / setting_path(dataset, network, seed, variant, policy, scope, target)
        yield Place(dataset, network, seed, variant, policy, None if own else target, folder)
