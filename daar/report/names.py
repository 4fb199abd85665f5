"""How tables and figures name networks and datasets, targets and seeds."""

import pandas as pd

from daar import models
from daar.data import datasets


def pair_title(network: str, dataset: str) -> str:
    """For ("resnet20", "digits") it is "ResNet-20 on Digits"; names unknown to the registries stay as they are."""
    return f"{models.title(network)} on {datasets.title(dataset)}"


def removed(target: float) -> str:
    """For 0.5 it is "50% of the MACs removed"."""
    return f"{100 * target:g}% of the MACs removed"


def seeds_title(listed: str) -> str:
    """For "1" it is "seed 1", for "0, 2" it is "seeds 0, 2"."""
    return f"seed{'s' if ',' in listed else ''} {listed}"


def seeds_counted(rows: pd.DataFrame) -> str:
    """How many seeds rows have: "3 seeds", or "up to 3 seeds" where a run was cut off and some rows have fewer."""
    counts = rows.groupby(["variant", "policy", "target"], dropna=False)["seed"].nunique()
    most = counts.max()
    return f"{'up to ' if counts.min() < most else ''}{most} seed{'s' if most > 1 else ''}"
