"""What must be equal for two rows to be in one table.

Within one (dataset, network), whatever the target, since its table has one head and one dense row: the suite, the base
of each seed and its accuracy, where the bases come from, the MACs of the dense network, the scope, the calibration
images, the precision of the tuning as far as records say it, the tuning recipe and the epochs of tuning, all parts of a
schedule together: iterative in 3 rounds of 10 is as long as one-shot with 30. Only networks that are trained from
scratch have another recipe, that of the dense ones. Within one target: the seeds, and the MACs removed, to half a point
of the dense count or to what the suite allows. Rows at ratios of their own (`own_ratios`) have no common target; among
them only the seeds are compared. Of a setting that failed (`daar report --partial`) only the seed is compared: it has
nothing else.
"""

import math

import pandas as pd

from daar.errors import InputError
from daar.report.collect import finished
from daar.suite.definition import MACS_POINTS

_SHARED = {
    "suite": "Report on one suite at a time.",
    "scope": "Give every scope a suite of its own.",
    "calibration_images": "Run both with the same number of calibration images.",
    "imported": "Import the dense network for every seed, or for none.",
    "train_recipe": "Train the dense networks of all seeds with the same recipe.",
    "precision": "What auto means depends on the machine: name one in the recipe, and run the other again.",
    "macs_dense": "The network's code has changed in between: run the outdated one again.",
}


def own_ratios(results: pd.DataFrame) -> pd.Series:
    """Which rows keep their policy's own ratios, so that no target makes them comparable; bool per row."""
    return results["policy"].str.startswith("published") | results["target"].isna()


def check(results: pd.DataFrame, macs_points: float = MACS_POINTS) -> None:
    """Refuse an unfair comparison.

    Args:
        results: rows of results.csv, of any number of data sets and networks.
        macs_points: how far the MACs removed of one target's rows may be apart, in points of the dense count.

    Raises:
        InputError: names the offending variant, the field, both values and what to do.
    """
    for _, all_rows in results.groupby(["dataset", "network"]):
        rows = finished(all_rows)
        for field, remedy in _SHARED.items():
            _same(rows, field, remedy)
        for _, seed in rows.groupby("seed"):
            _same(seed, "base_sha256", "Prune the same dense network: run the outdated one again.")
            _same(seed, "top1_dense", "Measure the dense network on the same test images: run the outdated one again.")
        _own_bases(rows)
        pruned = rows[rows["method"] != "scratch_of"]
        _same(pruned, "recipe", "Tune all rows with the same recipe.")
        _same(pruned, "epochs", "Tune by every schedule for as many: run the outdated one again.")
        for _, variant in rows.groupby("variant"):
            _same(variant, "options", "Give every choice of options a variant of its own.")
            for field in ("schedule", "schedule_options"):
                _same(variant, field, "Give every schedule a variant of its own.")
        own = own_ratios(all_rows)
        for _, target in all_rows[~own].groupby("target"):
            _same_seeds(target)
            _same_macs(finished(target), macs_points)
        if own.any():
            _same_seeds(all_rows[own])


def _name(row: pd.Series, seed: bool = True) -> str:
    at = "" if pd.isna(row["target"]) else f" at target {100 * row['target']:g}%"
    return f"variant {row['variant']!r} ({row['policy']}{at}" + (f", seed {row['seed']})" if seed else ")")


def _refuse(row: pd.Series, message: str) -> InputError:
    return InputError(f"unfair table {row['dataset']}/{row['network']}: {message}")


def _same(rows: pd.DataFrame, field: str, remedy: str) -> None:
    if rows[field].nunique() <= 1:  # blanks do not count
        return
    rows = rows[rows[field].notna()]
    # whoever is alone with a value is the likelier offender; mode() breaks ties by order
    usual = rows[field] == rows[field].mode().iloc[0]
    offender, other = rows[~usual].iloc[0], rows[usual].iloc[0]
    raise _refuse(
        offender,
        f"{field} of {_name(offender)} is {offender[field]}, of {_name(other)} it is {other[field]}; "
        f"expected the same. {remedy}",
    )


def _own_bases(rows: pd.DataFrame) -> None:
    """A trained network that two seeds share would be counted twice; an imported one is shared, and tables say so."""
    bases = rows.loc[~rows["imported"], ["base_sha256", "seed"]].drop_duplicates()
    for base, same in bases.groupby("base_sha256"):
        if len(same) > 1:
            offender = rows[rows["seed"] == same["seed"].max()].iloc[0]
            raise _refuse(
                offender,
                f"base_sha256 of {_name(offender)} is {base}, as for seed {same['seed'].min()}; expected a dense "
                "network of its own for every seed. Train them again.",
            )


def _same_seeds(rows: pd.DataFrame) -> None:
    expected = set(rows["seed"])
    for _, variant in rows.groupby(["variant", "policy"]):
        seeds = set(variant["seed"])
        if seeds != expected:
            first = variant.iloc[0]
            raise _refuse(
                first,
                f"seed of {_name(first, seed=False)} is {_listed(seeds)}, of others it is {_listed(expected)}; "
                f"expected the same. Run seed {_listed(expected - seeds)} too, or take the variant out of the suite.",
            )


def _same_macs(rows: pd.DataFrame, allowed: float) -> None:
    if rows.empty:
        return
    points = 100 * rows["macs_reduction"]
    apart = points.max() - points.min()
    # rounding of the subtraction must not refuse a difference of exactly what is allowed
    if apart <= allowed + 1e-9:
        return
    low, high = rows.iloc[points.argmin()], rows.iloc[points.argmax()]
    offender, other = sorted((low, high), key=lambda row: -abs(row["macs_reduction"] - row["target"]))
    raise _refuse(
        offender,
        f"macs_reduction of {_name(offender)} is {100 * offender['macs_reduction']:.2f}%, of {_name(other)} it is "
        f"{100 * other['macs_reduction']:.2f}%; expected at most {allowed:g} points between them. "
        f"Choose a target that both can meet, or take {offender['variant']!r} out of this one; where single channels "
        f"are as large as that, set macs_points: {math.ceil(10 * apart) / 10:g} in the suite, which its tables state.",
    )


def _listed(seeds: set[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))
