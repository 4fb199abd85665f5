"""The numbers of docs/results.md, recomputed by numpy and scipy from the kept results.csv."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
# row of the page → variant
ROWS = {
    "L1, adaptive rates": "l1-adaptive",
    "**DAAR (reconstructed)**": "daar",
    "random, at DAAR's widths (control)": "daar-random",
    "FPGM": "fpgm",
    "L1": "l1",
    "HRank": "hrank",
    "random (control)": "random",
}
TABLES = [("ResNet-20", "cifar10-cpu", (0.3, 0.5, 0.7)), ("ResNet-56", "cifar10-cpu-resnet56", (0.5, 0.841))]


Rows = dict[tuple[str, float], Any]


def tuned(suite: str) -> Rows:
    """(variant, target) → tuned top-1 of each seed, in order."""
    frame = pd.read_csv(ROOT / "results" / "reference" / suite / "results.csv").sort_values("seed")
    assert (frame.groupby(["variant", "target"])["seed"].apply(list).map(str) == "[0, 1, 2]").all()
    values: dict[tuple[str, float], list[float]] = {}
    for variant, target, top1 in zip(frame["variant"], frame["target"], frame["top1_tuned"], strict=True):
        values.setdefault((str(variant), float(target)), []).append(float(top1))
    return {key: np.array(seeds) for key, seeds in values.items()}


def expected(rows: Rows, variant: str, target: float) -> str:
    values = rows[variant, target]
    text = f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"
    if variant == "daar":
        return text
    apart = values - rows["daar", target]
    low, high = stats.t.interval(0.95, len(apart) - 1, apart.mean(), stats.sem(apart))
    tied = ", tied" if low <= 0 <= high else ""
    return f"{text} ({apart.mean():+.2f} [{low:.2f}, {high:.2f}]{tied})".replace("-", "−")


@pytest.mark.parametrize(("network", "suite", "targets"), TABLES)
def test_accuracies_and_intervals(network: str, suite: str, targets: tuple[float, ...]) -> None:
    section = PAGE.split(f"## {network} on CIFAR-10")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    heads, _, *body = cells
    assert [float(head.rstrip(" %")) / 100 for head in heads[1:]] == pytest.approx(targets)
    assert {row[0] for row in body} == set(ROWS)
    rows = tuned(suite)
    for name, *said in body:
        bare = [re.sub(r"\(\*\*(.*)\*\*\)", r"(\1)", cell) for cell in said]
        assert bare == [expected(rows, ROWS[name], target) for target in targets], name
    means = [rows[ROWS[row[0]], 0.5].mean() for row in body]
    assert means == sorted(means, reverse=True)


def test_what_is_said_in_short() -> None:
    rows = {key: values.mean() for key, values in tuned("cifar10-cpu").items()}
    gains = [rows["l1-adaptive", t] - rows["l1", t] for t in (0.3, 0.5, 0.7)]
    assert "With them L1 is {:.1f}, {:.1f} and {:.1f}\n".format(*gains) in PAGE
    of_random = [rows["daar-random", t] - rows["random", t] for t in (0.3, 0.5, 0.7)]
    assert "random filters {:.1f}, {:.1f} and {:.1f}.".format(*of_random) in PAGE
    both = [(tuned(suite), target) for _, suite, targets in TABLES for target in targets]
    assert [f"{target} {expected(rows, 'l1-adaptive', target)[-5:]}" for rows, target in both] == [
        "0.3 tied)", "0.5 .54])", "0.7 tied)", "0.5 tied)", "0.841 tied)",
    ]  # fmt: skip
    ahead = [expected(rows, equal, target) for rows, target in both for equal in ("l1", "fpgm", "hrank", "random")]
    assert not any("tied" in text or "(+" in text for text in ahead)


@pytest.mark.parametrize(("suite", "targets", "said"), [
    ("cifar10-cpu", (0.3, 0.5, 0.7), "DAAR removes 16, 32 and 56 %, equal widths 28, 49 and 70 %"),
    ("cifar10-cpu-resnet56", (0.5, 0.841), "DAAR removes 34 and 79 %, equal widths 49 and 83 %"),
])  # fmt: skip
def test_parameters(suite: str, targets: tuple[float, ...], said: str) -> None:
    frame = pd.read_csv(ROOT / "results" / "reference" / suite / "results.csv")
    gone = frame.assign(gone=100 * (1 - frame["params_slim"] / frame["params_dense"]))
    means = gone.groupby(["variant", "target"])["gone"].mean().to_dict()
    numbers = [f"{np.round(means[(variant, target)]):.0f}" for variant in ("daar", "l1") for target in targets]
    assert re.findall(r"\d+", said) == numbers
    assert said in " ".join(PAGE.split())
