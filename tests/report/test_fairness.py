"""Which rows may stand in one table."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from daar.errors import InputError
from daar.report import fairness, figures
from daar.report.ledger import write_ledger
from daar.report.tables import write_tables
from tests.report.report_files import draw_all
from tests.report.report_rows import CONTEXT, DAAR, L1, RANDOM, SCRATCH, change, csv, frame, lost, named, rows

IMPORTED: dict[str, Any] = {"base_sha256": "a" * 64, "imported": True, "top1_dense": 93.1, "train_recipe": None}
FAIR = {
    "plain": (L1, DAAR),
    "a control": (L1, DAAR, RANDOM),
    "a network from scratch, by a recipe of its own": (L1, DAAR, SCRATCH),
    "half a point of MACs": (L1, change(DAAR, macs_reduction=0.495)),
    "other MACs at another target": (L1, change(DAAR, target=0.7, macs_reduction=0.7)),
    "other MACs, published": (L1, change(DAAR, policy="published", macs_reduction=0.3)),
    "other MACs, no target": (L1, change(DAAR, target=float("nan"), macs_reduction=0.3)),
    "seeds of another target": (L1, change(DAAR[:2], target=0.7, macs_reduction=0.7)),
    "a target at which everything failed": (L1, [lost(row) for row in change(L1, target=0.7)]),
    "precision from before it was noted": (L1, change(DAAR[:1], precision=pd.NA), DAAR[1:]),
    "one imported base": (change(L1, **IMPORTED), change(DAAR, **IMPORTED)),
    "schedules of as many epochs": (L1, change(DAAR, schedule="iterative", schedule_options='{"rounds": 3}')),
    "another network": (L1, change(DAAR, network="vgg16_bn", scope="inner", recipe="e" * 12, **IMPORTED)),
}


def test_a_suite_may_allow_more_points_and_the_message_says_how_many() -> None:
    coarse = frame(change(L1, macs_reduction=0.5013), change(DAAR, macs_reduction=0.5069))
    with pytest.raises(InputError, match=r"at most 0\.5 points .* set macs_points: 0\.6 in the suite"):
        fairness.check(coarse)
    fairness.check(coarse, 0.6)
    with pytest.raises(InputError, match=r"at most 0\.55 points"):
        fairness.check(coarse, 0.55)


def test_all_outputs_of_a_suite_that_allows_more_points_are_written(tmp_path: Path) -> None:
    path = csv(tmp_path, change(L1, macs_reduction=0.5013), change(DAAR, macs_reduction=0.5069))
    with pytest.raises(InputError, match="macs_points"):
        write_tables(path, tmp_path / "tables", CONTEXT)
    write_tables(path, tmp_path / "tables", replace(CONTEXT, macs_points=0.6))
    text = (tmp_path / "tables" / "cifar10-resnet56.md").read_text()
    assert "0.56 points apart at most (0.6 are allowed)" in text
    with pytest.raises(InputError, match="macs_points"):
        figures.accuracy_macs(path, tmp_path / "figures", named(), ())
    assert figures.accuracy_macs(path, tmp_path / "figures", named(), (), 0.6)
    write_ledger(path, tmp_path / "tables", named(), {}, 0.6)


@pytest.mark.parametrize("name", FAIR)
def test_fair(name: str) -> None:
    fairness.check(frame(*FAIR[name]))


UNFAIR = {
    "base": (change(DAAR, 1, base_sha256="9" * 64), ("base_sha256", "'daar'", "seed 1", "9" * 64, "1" * 64)),
    "recipe": (change(DAAR, 2, recipe="e" * 12), ("recipe", "'daar'", "seed 2", "e" * 12, "0123456789ab")),
    "scope": (change(DAAR, 0, scope="inner"), ("scope", "'daar'", "inner", "all")),
    "scope of another target": (change(DAAR[:1], target=0.7, scope="inner"), ("scope", "'daar'", "70%", "inner")),
    "images": (change(DAAR, 0, calibration_images=64), ("calibration_images", "'daar'", "64", "640")),
    "one trained base for two seeds": (
        [row | {"seed": 3} for row in DAAR if row["seed"] == 1],
        ("base_sha256", "seed 3", "as for seed 1", "1" * 64),
    ),
    "accuracy of the base": (change(DAAR, 1, top1_dense=93.9), ("top1_dense", "'daar'", "seed 1", "93.9", "93.2")),
    "source of the bases": (change(DAAR, 2, imported=True), ("imported", "'daar'", "seed 2", "True", "False")),
    "training of the bases": (change(DAAR, 2, train_recipe="e" * 12), ("train_recipe", "'daar'", "seed 2", "e" * 12)),
    "dense network": (change(DAAR, macs_dense=1000), ("macs_dense", "'daar'", "1000", "125485696", "run the outdated")),
    "precision": (change(DAAR, 2, precision="float32"), ("precision", "'daar'", "seed 2", "float32", "bf16")),
    "precision of a control": (change(RANDOM, 0, precision="float32"), ("precision", "'random'")),
    "suite": (change(DAAR, 0, suite="demo"), ("suite", "'daar'", "demo", "paper")),
    "options": (change(DAAR, 0, options='{"a": 1}'), ("options", "'daar'", '{"a": 1}', "{}")),
    "schedule": (change(DAAR, 0, schedule="soft"), ("schedule", "'daar'", "soft", "one-shot")),
    "rounds": (change(DAAR, 0, schedule_options='{"rounds": 3}'), ("schedule_options", "'daar'", '{"rounds": 3}')),
    "epochs of a schedule": (
        change(DAAR, schedule="iterative", epochs=3 * 150),
        ("epochs of variant 'daar'", "is 450", "it is 150", "Tune by every schedule for as many"),
    ),
    "macs": (change(DAAR, 1, macs_reduction=0.4949), ("macs_reduction", "'daar'", "seed 1", "49.49%", "50.00%")),
    "seeds": (DAAR[:2], ("seed", "'daar'", "0, 1,", "0, 1, 2", "Run seed 2")),
    "seeds, published": (
        [*change(L1, policy="published"), *change(DAAR[1:], policy="published", macs_reduction=0.3)],
        ("'daar'", "published", "Run seed 0"),
    ),
    "scope, no target": (change(DAAR, 0, target=float("nan"), scope="inner"), ("'daar' (adaptive, seed 0)", "inner")),
    "base of a control": (change(RANDOM, 0, base_sha256="9" * 64), ("base_sha256", "'random'")),
    "recipe of random filters": (change(RANDOM, 0, recipe="e" * 12), ("recipe", "'random'", "seed 0", "e" * 12)),
    "epochs of random filters": (change(RANDOM, epochs=999), ("epochs", "'random'", "999", "150")),
    "epochs of random filters at DAAR's widths": (
        rows("chance", (92.0, 92.0, 92.0), method="random_at", of="daar", control=True, epochs=999),
        ("epochs", "'chance'", "999", "150"),
    ),
    "scope of a control": (change(RANDOM, scope="inner"), ("scope", "'random'")),
    "images of a control": (change(RANDOM, calibration_images=64), ("calibration_images", "'random'")),
    "macs of a control": (change(RANDOM, macs_reduction=0.51), ("macs_reduction", "'random'")),
    "seeds of a control": (RANDOM[1:], ("'random'", "Run seed 0")),
}


@pytest.mark.parametrize("name", UNFAIR)
def test_unfair(tmp_path: Path, name: str) -> None:
    group, expected = UNFAIR[name]
    path = csv(tmp_path, L1, rows("fpgm", (92.6, 92.7, 92.8)), group)
    for write in (
        lambda: write_tables(path, tmp_path / "out", CONTEXT),
        lambda: draw_all(path, tmp_path / "out", named()),
    ):
        with pytest.raises(InputError) as error:
            write()
        for part in ("cifar10/resnet56", *expected):
            assert part in str(error.value)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "out").exists()
