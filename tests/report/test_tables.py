"""The tables."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from daar.report import accuracies, markdown, table_text
from daar.report.context import Context
from daar.report.sheet import NONE
from daar.report.tables import write_tables
from tests.report.report_rows import (
    CONTEXT,
    DAAR,
    DENSE,
    L1,
    RANDOM,
    SCRATCH,
    TITLES,
    change,
    csv,
    frame,
    lost,
    named,
    rows,
)

# worked out by hand. Tuned l1: mean 92.8, deviations −0.3, 0.1, 0.2, std √(0.14 / 2) = 0.26, Δ −0.5, −0.3, −0.4.
# daar: mean 93.4, std 0.1, Δ 0.3, 0.3, 0.0. random: Δ −1.0, −1.2, −1.4. Dense: mean 93.2, std 0.2.
# daar − l1: 0.8, 0.6, 0.4, std 0.2; t(0.975, 2) = 4.3027, so ± 4.3027 · 0.2 / √3 = 0.497. random − l1: −0.5, −0.9,
# −1.0, std 0.2646, ± 0.657. random − daar: −1.3, −1.5, −1.4, std 0.1, ± 0.248.
GOLDEN = """\
# ResNet-56 on CIFAR-10

- Scope: all. Seeds: 0, 1, 2. Calibration images: 640.
- Dense weights: one network per seed, the same for all rows of a seed; training recipe 0123456789ab.
- Tuning: recipe 0123456789ab, 150 epochs.
- Level of comparison: S3.2 of Wang et al. 2023 (same dense weights and same tuning schedule for every method), \
checked; S4 counts the epochs of pruning too: 0, as scoring and planning train nothing. Nothing in a run is chosen \
on test images.
- MACs removed: rows of one target are 0.00 points apart at most (0.5 are allowed).
- Hardware: EPYC\\_7 (2 cores), no GPU. Tuned in bf16.

| Method | Policy | Dense top-1 | Pruned top-1 (no tuning) | BN recalibrated | Tuned top-1 | Δ (tuned − dense) \
| vs best comparison | vs DAAR | FLOPs (MACs), removed | Params, removed | MACs by thop | Best-val top-1 | Val top-1 |
|:-|:-|-:|-:|-:|-:|-:|-:|-:|-:|-:|-:|-:|-:|
| Dense | – | 93.20 ± 0.20 (3) | – | – | – | – | – | – | 125.5M (0.00%) | 853.0K (0.00%) | 126.0M | – | – |
| **Target: 50% of the MACs removed** | | | | | | | | | | | | | |
| DAAR (reconstructed) | adaptive | 93.20 | 10.00 | 60.12 | **93.40 ± 0.10 (3)** | +0.20 \
| +0.60 [+0.10, +1.10] | reference | 62.7M (50.00%) | 426.5K (50.00%) | 63.0M | 93.00 | 92.00 |
| L1 | uniform | 93.20 | 10.00 | 60.12 | 92.80 ± 0.26 (3) | −0.40 \
| reference | −0.60 [−1.10, −0.10] | 62.7M (50.00%) | 426.5K (50.00%) | 63.0M | 93.00 | 92.00 |
| random (control) | uniform | 93.20 | 10.00 | 60.12 | 92.00 ± 0.00 (3) | −1.20 \
| −0.80 [−1.46, −0.14] | −1.40 [−1.65, −1.15] | 62.7M (50.00%) | 426.5K (50.00%) | 63.0M | 93.00 | 92.00 |

- Accuracies are percent of the test images, Val top-1 of the validation images; tuned: last epoch, best-val: epoch \
with the best validation accuracy.
- Mean ± sample standard deviation (n). Δ is taken per seed, in points, then averaged.
- FLOPs means MACs: multiply-accumulates of conv and linear layers for one image; thop adds BN.
- DAAR here is a reconstruction from the abstract; its numbers are not the paper's.
- vs best comparison: tuned top-1 minus that of the method with the highest mean at the target, controls and variants \
of DAAR left out; it is the row that says reference. vs DAAR: minus that of DAAR (reconstructed).
- In brackets: 95% interval of the mean difference, in points, paired by seed (Student's t, n = 3 unless said \
otherwise); tied: it contains 0. Each is for one comparison, without correction for their number.
- Bold: the method with the highest tuned top-1 at the target, unless it is tied with the second.
"""


def page(data: pd.DataFrame, titles: dict[str, str]) -> str:
    return markdown.page(accuracies.sheet(data, Context(named(titles))))


SCRATCHED = change(SCRATCH, imported=True, precision=pd.NA)


def squeezed(text: str) -> str:
    """Without the padding of the table's cells."""
    return re.sub("-{2,}", "-", re.sub(" +", " ", text))


def test_golden_markdown(tmp_path: Path) -> None:
    written, *_ = write_tables(csv(tmp_path, RANDOM, L1, DAAR), tmp_path / "tables", CONTEXT)
    assert written.name == "cifar10-resnet56.md"
    assert squeezed(written.read_text(encoding="utf-8")) == GOLDEN


def test_nothing_says_tuned_where_nothing_was(tmp_path: Path) -> None:
    untuned = [change(group, epochs=0, imported=True, precision=pd.NA) for group in (L1, DAAR, RANDOM, DAAR)]
    untuned[3] = change(untuned[3], variant="daar-spatial", options='{"attention": "spatial"}')
    written = write_tables(csv(tmp_path, *untuned, SCRATCHED), tmp_path / "tables", CONTEXT)
    pages = {path.stem: path.read_text(encoding="utf-8") for path in written if path.suffix == ".md"}
    header = next(line for line in pages["cifar10-resnet56"].splitlines() if line.startswith("| Method"))
    heads = [cell.strip() for cell in header.split("|")[1:-1]]
    assert heads[2:6] == ["Dense top-1", "Pruned top-1 (no tuning)", "Untuned top-1", "Δ (untuned − dense)"]
    assert "| Untuned top-1 |" in squeezed(pages["cifar10-resnet56-ablation-daar"])
    for name in ("cifar10-resnet56", "cifar10-resnet56-ablation-daar"):
        # the recipe of what is trained from scratch is the one that is left
        said = re.sub(
            "(?i)untuned|Tuning: .*|same tuning schedule|no tuning|nothing is tuned|Nothing was tuned", "", pages[name]
        )
        assert "tun" not in said.lower(), said


def test_top5_stands_beside_top1_where_it_was_measured(tmp_path: Path) -> None:
    dense, tuned = (99.0, 99.2, 99.4), (98.0, 98.5, 99.0)
    measured = [
        change(L1, dataset="cifar100", top5_dense=value, top5_tuned=tuned[k])[k] for k, value in enumerate(dense)
    ]
    own = [row | {"target": float("nan"), "macs_reduction": 0.3, "top5_tuned": 97.0} for row in measured]
    written = write_tables(csv(tmp_path, measured, own, L1), tmp_path / "tables", Context(named({})))
    pages = {path.name: path for path in written}
    assert "top-5" not in pages["cifar10-resnet56.md"].read_text(encoding="utf-8")
    text = pages["cifar100-resnet56.md"].read_text(encoding="utf-8")
    assert text.startswith("# ResNet-56 on CIFAR-100\n")
    header, *cells = (
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if re.match(r"\| (Method|Dense|l1) ", line)
    )
    at = header.index("Dense top-5")
    assert header[at - 1 : at + 3] == ["Δ (tuned − dense)", "Dense top-5", "Tuned top-5", "FLOPs (MACs), removed"]
    # by hand: deviations of 0.2 and of 0.5 from the mean on either side
    assert [row[at : at + 2] for row in cells if row != header] == [
        ["99.20 ± 0.20 (3)", "–"],
        ["99.20", "98.50 ± 0.50 (3)"],
        ["99.20 ± 0.20 (3)", "–"],
        ["99.20", "97.00 ± 0.00 (3)"],
    ]


def test_csv_has_the_numbers_apart(tmp_path: Path) -> None:
    _, path, *_ = write_tables(csv(tmp_path, RANDOM, L1, DAAR), tmp_path / "tables", CONTEXT)
    table = pd.read_csv(path)
    assert list(table["variant"]) == ["dense", "daar", "l1", "random"]
    assert list(table["n"]) == [3, 3, 3, 3]
    assert list(table["control"]) == [False, False, False, True]
    tuned = np.array([[93.3, 93.5, 93.4], [92.5, 92.9, 93.0], [92.0, 92.0, 92.0]])
    np.testing.assert_allclose(table["top1_tuned_mean"][1:], tuned.mean(1), rtol=1e-15)
    np.testing.assert_allclose(table["top1_tuned_std"][1:], tuned.std(1, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(table["delta_top1_mean"][1:], (tuned - DENSE).mean(1), rtol=1e-12)
    assert list(table["macs_slim_mean"]) == [125_485_696, *[62_742_848] * 3]


def methods(text: str) -> list[str]:
    return [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]


def test_groups_by_target_and_own_ratios_by_macs() -> None:
    high = [change(group, target=0.7, macs_reduction=0.7) for group in (L1, DAAR)]
    none = change(L1, target=float("nan"), policy="global", macs_slim=30_000_000, macs_reduction=0.76)
    published = change(rows("hrank", (92.0, 92.0, 92.0)), policy="published", macs_slim=60_000_000, macs_reduction=0.52)
    text = page(frame(none, *high, published, L1, DAAR), TITLES | {"daar": "zeta"})
    first, second = text.split("## At ratios of their own")
    titles = ["zeta", "L1"]  # the most accurate first
    assert methods(first) == [
        *("Method", "Dense", "**Target: 50% of the MACs removed**", *titles),
        *("**Target: 70% of the MACs removed**", *titles),
    ]
    assert methods(second) == ["Method", "Dense", "hrank, published ratios", "L1, global threshold"]
    alone = page(frame(none), {})
    assert methods(alone) == ["Method", "Dense", "l1, global threshold"]


def test_imported_base_that_saw_val() -> None:
    imported = rows("l1", (92.5, 92.9, 93.0), base_sha256="a" * 64, imported=True, saw_val=True, top1_dense=93.1)
    data = frame(imported)
    text = page(data, {})
    assert "One imported dense network: a seed sets only the calibration images, random" in text
    assert "nothing was chosen on them" in text
    assert "reconstruction" not in text
    dense, _, method = (line.split("|")[1:-1] for line in text.splitlines() if re.match(r"\| (Dense|\*|l1)", line))
    assert dense[2].strip() == "93.10 (1)"
    assert [cell.strip() for cell in method[-2:]] == ["", "seen"]
    numeric = accuracies.table(data, named({})).iloc[1]
    assert pd.isna(numeric["top1_best_val_mean"])
    assert pd.isna(numeric["val_top1_tuned_mean"])


def test_single_seed_has_no_spread() -> None:
    text = page(frame(rows("l1", (92.5,), macs_slim_thop=pd.NA, top1_best_val=float("nan"))), {})
    line = next(line for line in text.splitlines() if line.startswith("| l1 "))
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert (cells[0], cells[5], cells[9], cells[10]) == ("l1", "92.50 (1)", "–", "–")


def test_rows_say_their_machine_where_a_table_has_several() -> None:
    def column(*groups: list[dict[str, Any]]) -> dict[str, str]:
        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page(frame(*groups), {}).splitlines()]
        table = [cells for cells in lines if len(cells) > 5]
        assert table[0][-1] == "Machine"
        return {cells[0]: cells[-1] for cells in table[2:] if not cells[0].startswith("**Target")}

    xeon: Any = {"hardware_cpu": "A Xeon", "hardware_cores": 2}
    mixed = [*change(DAAR[:1], **xeon), *DAAR[1:]]
    assert column(L1, mixed, change(RANDOM, **xeon)) == {
        "Dense": "–", "l1": "B", "daar": "A, B", "random": "A",
    }  # fmt: skip
    own: Any = {"target": float("nan")}
    assert column(change(L1, **own), change(RANDOM, **own, **xeon))["l1"] == "B"
    assert "Machine" not in page(frame(change(L1, **xeon), change(DAAR, **xeon)), {})


def test_names_cannot_break_the_table() -> None:
    odd = rows("l1", (92.5,), hardware_gpu="<b>|GPU|\n$x$")
    text = page(frame(odd), {"l1": "a|b *c* `d` [e](f)\n# g"})
    assert r"| a\|b \*c\* \`d\` \[e\](f) \# g " in text
    assert r"\<b\>\|GPU\| \$x\$." in text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (4.089e9, "4.09G"),
        (125_485_696, "125.5M"),
        (9_994_000, "9.99M"),
        (853_018, "853.0K"),
        (12, "12"),
        (math.nan, "–"),
    ],
)
def test_count(number: float, text: str) -> None:
    assert table_text.count(number) == text


@pytest.mark.parametrize(
    ("points", "text"), [(-0.4, "−0.40"), (0.126, "+0.13"), (0.0, "0.00"), (-0.004, "0.00"), (-12.5, "−12.50")]
)
def test_signed(points: float, text: str) -> None:
    assert table_text.signed(points) == text


def test_failed_seeds_are_shown_with_their_reasons() -> None:
    some = [lost(DAAR[0], "the loss | is <nan>"), *DAAR[1:]]
    none = [lost(row) for row in rows("fpgm", (1.0, 1.0, 1.0))]
    text = page(frame(L1, some, none), {})
    lines = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")]
        for line in text.splitlines()
        if "|" in line
    }
    # 93.5 and 93.4 are left: mean 93.45, std 0.0707; against 92.9 and 93.0 it is 0.6 and 0.4: t(0.975, 1) = 12.706
    assert lines["daar"][6] == "93.45 ± 0.07 (2 of 3; seed 0 missing)"
    assert lines["daar"][8] == "+0.50 [−0.77, +1.77] tied (n = 2)"
    assert lines["fpgm"][6:9] == [f"{NONE} (0 of 3; seeds 0, 1, 2 missing)", NONE, NONE]
    assert r"- Missing: daar, target 50%, seed 0: the loss \| is \<nan\>" in text
    assert text.count("- Missing: fpgm, target 50%, seeds 0, 1, 2: ") == 1
    assert "at the target (where not all rows have all seeds, of those with the most), controls" in text


def test_a_pair_of_which_nothing_finished_still_has_its_page() -> None:
    text = page(frame([lost(row) for row in L1]), {})
    assert "No setting has finished" in text
    assert text.count("- Missing: l1, target 50%, seeds 0, 1, 2: ") == 1


def test_nothing_is_bold_where_the_best_is_tied_with_the_second() -> None:
    tied = page(frame(L1, rows("fpgm", (92.6, 92.8, 93.3))), {})
    assert "**9" not in tied
    assert "tied" in tied
    alone = page(frame(change(L1[:1]), DAAR[:1]), {})
    assert "**9" not in alone
    assert "+0.80 [–]" in alone
    assert "One seed" in alone
