"""The numbers of docs/methods.md on results, recomputed by pandas and scipy from the kept results.csv."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8").replace("−", "-")
TEXT = " ".join(PAGE.split())
UNTUNED, TUNED = "cifar10-methods", "cifar10-methods-tuned"
COLUMNS = [(policy, target) for policy in ("adaptive", "uniform") for target in (0.5, 0.7)]
# the first head of a table of the page → the suite, and how a cell says the accuracies of all seeds
TABLES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "scores by": (UNTUNED, lambda top1: f"{top1.mean():.1f} ± {top1.std():.1f}"),
    "scores by, then one epoch": (TUNED, lambda top1: f"{top1.mean():.2f}"),
}


def kept(suite: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "results" / "reference" / suite / "results.csv")


def means(suite: str) -> Any:
    """(policy, target) → variant → mean test top-1."""
    of = kept(suite).groupby(["policy", "target", "variant"])["top1_tuned"].mean()
    return {column: of[column] for column in COLUMNS}


def cells(head: str) -> dict[str, list[str]]:
    """Variant → the cells of its row, in the page's order."""
    _, _, text = PAGE.partition(f"| {head} |")
    lines = text.partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {"-".join(re.findall(r"`(?:\w+: )?(\w+)`", name)): said for name, *said in rows}


@pytest.mark.parametrize("head", TABLES)
def test_accuracies(head: str) -> None:
    suite, said = TABLES[head]
    results, found = kept(suite), cells(head)
    assert set(found) == set(results["variant"]) - {"lamp"}
    by = results.groupby(["variant", "policy", "target"])["top1_tuned"]
    for variant, row in found.items():
        assert row == [said(by.get_group((variant, *column))) for column in COLUMNS], variant
    first = [by.get_group((variant, "adaptive", 0.5)).mean() for variant in found]
    assert first == sorted(first, reverse=True)
    lamp = " and ".join(said(by.get_group(("lamp", "lamp", target))) for target in (0.5, 0.7))
    assert f"`lamp` by its own policy has {lamp}" in PAGE


def gains(suite: str) -> list[Any]:
    of = means(suite)
    return [of["adaptive", target] - of["uniform", target] for target in (0.5, 0.7)]


def test_what_adaptive_rates_gain() -> None:
    half, most = ((gain.mean(), gain.min(), gain.max()) for gain in gains(UNTUNED))
    assert "gain {:.1f} points at 50 % by adaptive rates ({:.1f} to {:.1f})".format(*half) in TEXT
    assert "and {:.1f} at 70 % ({:.1f} to {:.1f})".format(*most) in TEXT
    half, most = ((gain.mean(), gain.min(), gain.max()) for gain in gains(TUNED))
    assert "{:.1f} points at 50 % ({:.1f} to {:.1f}) and".format(*half) in TEXT
    assert "and {:.1f} at 70 % ({:.1f} to {:.1f}), in the mean".format(*most) in TEXT
    assert [set(gain.index[gain < 0]) for gain in gains(TUNED)] == [set(), {"hrank"}]


def test_what_tuning_leaves() -> None:
    before, after = means(UNTUNED), means(TUNED)
    spread = [of["adaptive", 0.5].max() - of["adaptive", 0.5].min() for of in (after, before)]
    assert "the rows are {:.1f} points apart, untuned they were {:.1f}".format(*spread) in TEXT
    best = after["adaptive", 0.5].sort_values(ascending=False)
    assert best.iloc[0] - best.iloc[14] <= 0.9 < best.iloc[0] - best.iloc[15]
    kept_order = [stats.spearmanr(before[column], after[column].reindex(before[column].index)) for column in COLUMNS]
    said = [f"{found.statistic:.2f}" for found in kept_order]
    assert "after is {} and {} with adaptive rates, {} and {} with equal widths".format(*said) in TEXT
    apart = [after[column]["daar"] - after[column]["l1"] for column in COLUMNS]
    assert "{:.2f} and {:+.2f} points at the same rates, {:+.2f} and {:.2f} at equal".format(*apart) in TEXT
    assert all(set(after["adaptive", target].nsmallest(2).index) == {"hrank", "apoz"} for target in (0.5, 0.7))
