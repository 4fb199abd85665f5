"""Paired differences of tuned top-1 between the rows of one target, with 95 % intervals.

Two rows of one seed share the dense network, the calibration images and the order of tuning, so their difference is
taken per seed. The interval is Student's t of these differences (`daar.report.statistics`). It is one comparison's;
nothing is corrected for how many a table makes.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from daar.report.collect import finished
from daar.report.fairness import own_ratios
from daar.report.statistics import half_width, summarise
from daar.suite.names import Names
from daar.training.schedules import ONE_SHOT

BEST, DAAR = "best comparison", "DAAR"

# points; a single one of 100,000 test images is a thousandth
_ALIKE = 1e-9

Key = tuple[str, str]  # of a row of one target: its variant and its policy
_COLUMNS = {
    **dict.fromkeys(("dataset", "network"), "string"),
    "target": "float64",
    **dict.fromkeys(("reference", "reference_variant", "reference_policy", "variant", "policy"), "string"),
    "control": "bool",
    **dict.fromkeys(("mean", "low", "high"), "float64"),
    "n": "int64",
    "seeds": "string",
    "tied": "boolean",
}


class Difference(NamedTuple):
    """The mean of n paired differences, in points, and its interval's ends, NaN where there is no interval.

    See `paired` for where there is none.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def tied(self) -> bool | None:
        """Whether the interval contains 0; None without an interval."""
        return None if math.isnan(self.low) else self.low <= 0 <= self.high


def paired(differences: Sequence[float]) -> Difference:
    """The mean of paired differences and its interval; fewer than two have none.

    Nor have differences that are all alike and not 0: accuracies are counts of few test images, so that this happens by
    rounding, and their interval would have no width.
    """
    mean, std, n = summarise(differences)
    half = half_width(std, n)
    if n > 1 and std < _ALIKE and abs(mean) > _ALIKE:
        half = math.nan
    return Difference(mean, mean - half, mean + half, n)


def between(tuned: Mapping[int, float], reference: Mapping[int, float]) -> Difference:
    """The difference of two rows, seed → top-1 each, over the seeds that both have."""
    return paired([tuned[seed] - reference[seed] for seed in sorted(tuned.keys() & reference.keys())])


def by_seed(rows: pd.DataFrame) -> dict[Key, dict[int, float]]:
    """(variant, policy) → seed → tuned top-1, of the rows of one target that finished."""
    tuned: dict[Key, dict[int, float]] = {}
    done = finished(rows)
    for variant, policy, seed, top1 in zip(
        done["variant"], done["policy"], done["seed"], done["top1_tuned"], strict=True
    ):
        tuned.setdefault((str(variant), str(policy)), {})[int(seed)] = float(top1)
    return tuned


def ranked(rows: pd.DataFrame, names: Names) -> list[Key]:
    """The rows of one target that are no controls, highest mean first; equal ones by name."""
    means = {key: statistics.fmean(seeds.values()) for key, seeds in by_seed(rows[~rows["control"]]).items()}
    return sorted(means, key=lambda key: (-means[key], names.row(*key).casefold(), key))


def best_comparison(rows: pd.DataFrame, names: Names) -> Key | None:
    """The comparison method (no control, no variant of DAAR) with the highest mean at one target; None without one.

    Where some settings did not finish, it is one of those with the most seeds: a difference to a row of a single seed
    has no interval.
    """
    others = rows[rows["method"] != "daar"]
    order, tuned = ranked(others, names), by_seed(others)
    return max(order, key=lambda key: len(tuned[key]), default=None)  # the first of equals: the highest mean


def plain(rows: pd.DataFrame, method: str, names: Names) -> Key | None:
    """The row that represents a method: the variant of its name, else in one shot without options, else the first.

    Under its own policy, or else under the first by name. None where the method has no row.
    """
    own = rows[(rows["method"] == method) & rows["of"].isna()]
    if own.empty:
        return None
    bare = set(own.loc[(own["options"] == "{}") & (own["schedule"] == ONE_SHOT), "variant"])
    order = sorted(set(own["variant"]), key=lambda name: (name != method, name not in bare, names.variant(name), name))
    policies = sorted(set(own.loc[own["variant"] == order[0], "policy"]))
    policy = names.policies.get(order[0], policies[0])
    return order[0], policy if policy in policies else policies[0]


def differences(rows: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Compare every row with the best comparison method of its target and with DAAR.

    Args:
        rows: rows of results.csv of one (dataset, network), fair ones. Those at ratios of their own have no common
            target and are left out.
        names: of the rows, with the methods' own policies.

    Returns:
        One line per pair: `mean`, `low` and `high` in points, over the `n` common `seeds`; `tied`, blank without an
        interval.
    """
    lines = []
    for target, members in rows[~own_ratios(rows)].groupby("target"):
        tuned, controls = by_seed(members), set(members.loc[members["control"], "variant"])
        references = {BEST: best_comparison(members, names), DAAR: plain(members, "daar", names)}
        for name, reference in references.items():
            if reference not in tuned:
                continue
            for key in sorted(tuned.keys() - {reference}):
                front = {"dataset": members["dataset"].iloc[0], "network": members["network"].iloc[0], "target": target}
                front |= {"reference": name, "variant": key[0], "policy": key[1], "control": key[0] in controls}
                lines.append(front | _line(tuned, key, reference))
    return pd.DataFrame(lines, columns=list(_COLUMNS)).astype(_COLUMNS)


def _line(tuned: Mapping[Key, Mapping[int, float]], key: Key, reference: Key) -> dict[str, Any]:
    difference = between(tuned[key], tuned[reference])
    common = sorted(tuned[key].keys() & tuned[reference].keys())
    about = {"reference_variant": reference[0], "reference_policy": reference[1]}
    return about | difference._asdict() | {"seeds": ", ".join(map(str, common)), "tied": difference.tied}
