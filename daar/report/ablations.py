"""What a method's options contribute: its variants in one table, each compared with the plain one."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from daar.report import comparison
from daar.report.collect import state, untuned
from daar.report.context import Context
from daar.report.differences import Difference, Key, between, by_seed, plain
from daar.report.fairness import own_ratios
from daar.report.names import pair_title
from daar.report.notes import on_intervals
from daar.report.sheet import Cell, Section, Sheet, grid, headed
from daar.report.statistics import by_variant
from daar.report.table_text import RECONSTRUCTION, difference, mean_std_n, seeds, target_heading
from daar.suite.names import Names
from daar.training.schedules import ONE_SHOT

_OPTION = "option_"
_BEFORE = "BN recalibrated (before tuning)"


def ablated(rows: pd.DataFrame) -> list[str]:
    """The methods with several variants, sorted; what `Suite.ablations` says of the whole suite."""
    own = rows[rows["of"].isna()]
    counts = own.groupby("method")["variant"].nunique()
    return sorted(counts.index[counts > 1])


def ablation(rows: pd.DataFrame, method: str, context: Context) -> tuple[Sheet, pd.DataFrame]:
    """The page and the numbers of one method in one (dataset, network).

    Args:
        rows: rows of results.csv of the pair.
        method: one of `ablated`.
        context: names, and the defaults of options.

    Returns:
        The page; and one row per (target, variant, policy): `option_<name>` for every option that differs, the means
        and deviations of top-1 recalibrated and tuned, and `difference_<mean, low, high, n, tied>` of tuned top-1 to
        the row that `reference_variant` and `reference_policy` name, which are blank in that row itself.
    """
    own = rows[(rows["method"] == method) & rows["of"].isna()]
    reference = plain(own, method, context.names)
    assert reference is not None, method
    numbers = frame(own, reference, _options(own, context.defaults.get(method, {})))
    pair = pair_title(str(rows["network"].iloc[0]), str(rows["dataset"].iloc[0]))
    title = f"Ablation: {context.names.variant(reference[0])}, {pair}"
    names = [name.removeprefix(_OPTION) for name in numbers.columns if name.startswith(_OPTION)]
    heads = ["Variant", *(["Policy"] if own["policy"].nunique() > 1 else []), *map(_head, names)]
    left = len(heads)
    heads += [*([] if untuned(own) else [_BEFORE]), _last(own), "Difference to the plain one"]
    cells = grid(headed(_cells(numbers, names, own, context.names)), heads, left, heads)
    return Sheet(
        title,
        (Section(None, comparison.facts(own, context), cells),),
        tuple(_notes(own, reference, context.names.variant(reference[0]))),
    ), numbers


def frame(own: pd.DataFrame, reference: Key, chosen: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """The numbers, see `ablation`; the plain variant comes first, then the others by accuracy.

    Args:
        own: a method's rows of results.csv.
        reference: the plain one's variant and policy.
        chosen: variant → option → value.
    """
    means = by_variant(own)[
        ["target", "own_ratios", "variant", "policy", "n", "n_asked", "failed_seeds"]
        + [f"top1_{stage}_{what}" for stage in ("recalibrated", "tuned") for what in ("mean", "std")]
    ]
    means = means.assign(first=means["variant"] != reference[0], top1=-means["top1_tuned_mean"])
    means = means.sort_values(["own_ratios", "target", "first", "top1", "variant", "policy"], ignore_index=True)
    tuned = {target: by_seed(members) for target, members in own[~own_ratios(own)].groupby("target")}
    lines = [
        {f"{_OPTION}{name}": value for name, value in chosen[row["variant"]].items()}
        | _compared(row, tuned.get(row["target"], {}), reference)
        for row in means.to_dict("records")
    ]
    numbers = pd.concat([means.drop(columns=["first", "top1"]), pd.DataFrame(lines, dtype=object)], axis=1)
    types = dict.fromkeys(("difference_mean", "difference_low", "difference_high"), "float64")
    return numbers.astype({**types, "difference_n": "Int64", "difference_tied": "boolean"})


def _options(own: pd.DataFrame, defaults: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Variant → the options that differ between variants → its value as text."""
    given = {name: json.loads(options) for name, options in zip(own["variant"], own["options"], strict=True)}
    if (own["schedule"] != ONE_SHOT).any():  # the third choice, next to options and policy
        for name, schedule, said in zip(own["variant"], own["schedule"], own["schedule_options"], strict=True):
            given[name] = {**given[name], "schedule": _schedule(schedule, json.loads(said))}
    named = sorted({option for options in given.values() for option in options})
    whole = {
        variant: {option: _text(options.get(option, defaults.get(option, "default"))) for option in named}
        for variant, options in given.items()
    }
    differing = [option for option in named if len({values[option] for values in whole.values()}) > 1]
    return {variant: {option: values[option] for option in differing} for variant, values in whole.items()}


def _schedule(name: str, options: Mapping[str, Any]) -> str:
    return ", ".join([name, *(f"{option} {value}" for option, value in options.items() if value is not None)])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _compared(row: Mapping[Any, Any], tuned: Mapping[Key, Mapping[int, float]], reference: Key) -> dict[str, Any]:
    """The difference to the plain variant under the same policy, or under its own where that is no other row."""
    key = (row["variant"], row["policy"])
    other = (reference[0], key[1])
    if key[0] == reference[0] or other not in tuned:
        other = reference
    points = between(tuned.get(key, {}), {} if key == other else tuned.get(other, {}))
    names = (None, None) if key == other else other
    return {
        **dict(zip(("reference_variant", "reference_policy"), names, strict=True)),
        **{f"difference_{name}": value for name, value in points._asdict().items()},
        "difference_tied": points.tied,
    }


def _head(option: str) -> str:
    # an option may have the name of another column
    return f"{option} (option)"


def _last(own: pd.DataFrame) -> str:
    return f"{state(own).capitalize()} top-1"


def _cells(
    numbers: pd.DataFrame, names: list[str], own: pd.DataFrame, rows: Names
) -> Iterator[tuple[str, Mapping[str, Cell | str]]]:
    """The heading and the cells of every row."""
    for row in numbers.to_dict("records"):
        points = Difference(*(row[f"difference_{name}"] for name in Difference._fields))
        itself = pd.isna(row["reference_variant"])
        cells = {
            "Variant": rows.row(row["variant"], row["policy"]),
            "Policy": row["policy"],
            **{_head(name): row[f"{_OPTION}{name}"] for name in names},
            _BEFORE: mean_std_n(row["top1_recalibrated_mean"], row["top1_recalibrated_std"], seeds(row)),
            _last(own): mean_std_n(row["top1_tuned_mean"], row["top1_tuned_std"], seeds(row)),
            "Difference to the plain one": "reference" if itself else difference(points, own["seed"].nunique()),
        }
        yield target_heading(None if row["own_ratios"] else row["target"]), cells


def _notes(own: pd.DataFrame, reference: Key, name: str) -> Iterator[str]:
    yield "Accuracies are percent of the test images, mean ± sample standard deviation (n)."
    if untuned(own):
        yield "Nothing was tuned: BN statistics are recalibrated."
    several = own["policy"].nunique() > 1
    under = f" under the same policy; what has none such, and {name} itself, is compared with {reference[1]}"
    yield f"Difference: {state(own)} top-1 minus that of {name}{under if several else ''}."
    yield on_intervals(own["seed"].nunique())
    if (own["method"] == "daar").any():
        yield RECONSTRUCTION
