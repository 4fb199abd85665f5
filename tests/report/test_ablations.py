"""The table of a method's options."""

import json
from pathlib import Path
from typing import Any

import pytest

from daar.report import ablations, markdown
from daar.report.context import Context, of_suite
from daar.report.tables import write_tables
from daar.suite import reading
from tests.report.report_rows import DAAR, L1, NAMES, RANDOM, change, csv, frame, lost, rows


def variant(name: str, added: float, **options: Any) -> list[dict[str, Any]]:
    """DAAR's rows with options, so much more accurate."""
    tuned = [row["top1_tuned"] + added * (1 + row["seed"]) for row in DAAR]
    changed = change(DAAR, variant=name, options=json.dumps(options, sort_keys=True))
    return [row | {"top1_tuned": top1} for row, top1 in zip(changed, tuned, strict=True)]


SPATIAL = variant("daar-spatial", -0.1, attention="spatial")
HALF = variant("daar-half", 0.1, attention="dual", boundary=0.5)
CONTEXT = Context(names=NAMES, defaults={"daar": {"attention": "dual", "boundary": "side", "x": 1}})


def lines(*groups: list[dict[str, Any]]) -> list[list[str]]:
    sheet, _ = ablations.ablation(frame(*groups), "daar", CONTEXT)
    text = markdown.page(sheet)
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]


def test_options_that_differ_stand_beside_what_they_do() -> None:
    # daar: 93.3, 93.5, 93.4. Differences −0.1, −0.2, −0.3: −0.2 ± 4.3027 · 0.1 / √3 = 0.248; and the same, above 0
    assert lines(L1, DAAR, SPATIAL, HALF, RANDOM) == [
        [
            *("Variant", "attention (option)", "boundary (option)", "BN recalibrated (before tuning)", "Tuned top-1"),
            "Difference to the plain one",
        ],
        ["**Target: 50% of the MACs removed**", *[""] * 5],
        ["DAAR (reconstructed)", "dual", "side", "60.12 ± 0.00 (3)", "93.40 ± 0.10 (3)", "reference"],
        [
            "daar-half, adaptive rates",
            "dual",
            "0.5",
            "60.12 ± 0.00 (3)",
            "93.60 ± 0.17 (3)",
            "+0.20 [−0.05, +0.45] tied",
        ],
        [
            "daar-spatial, adaptive rates",
            "spatial",
            "side",
            "60.12 ± 0.00 (3)",
            "93.20 ± 0.10 (3)",
            "−0.20 [−0.45, +0.05] tied",
        ],
    ]


def test_a_variant_is_compared_under_its_own_policy() -> None:
    uniform = [change(group, policy="uniform", top1_tuned=top1) for group, top1 in ((DAAR, 90.0), (SPATIAL, 89.0))]
    _, numbers = ablations.ablation(frame(DAAR, SPATIAL, *uniform), "daar", CONTEXT)
    found = {(row["variant"], row["policy"]): row for row in numbers.to_dict("records")}
    assert found["daar-spatial", "uniform"]["reference_policy"] == "uniform"
    assert found["daar-spatial", "uniform"]["difference_mean"] == pytest.approx(-1.0)
    assert found["daar-spatial", "adaptive"]["difference_mean"] == pytest.approx(-0.2)
    assert found["daar", "uniform"]["reference_policy"] == "adaptive"
    assert (found["daar", "adaptive"]["difference_n"], found["daar", "adaptive"]["reference_variant"]) == (0, None)
    assert found["daar", "uniform"]["difference_mean"] == pytest.approx(90 - 93.4)
    assert [row[1] for row in lines(DAAR, SPATIAL, *uniform)[2:]] == ["adaptive", "uniform"] * 2


def test_a_variant_whose_policy_the_plain_one_lacks_is_compared_with_the_plain_one() -> None:
    other = change(SPATIAL, policy="uniform", top1_tuned=92.4)
    _, numbers = ablations.ablation(frame(DAAR, other), "daar", CONTEXT)
    found = numbers.set_index("variant").loc["daar-spatial"]
    assert (found["reference_variant"], found["reference_policy"]) == ("daar", "adaptive")
    assert found["difference_mean"] == pytest.approx(92.4 - 93.4)


def test_failed_and_unequal_targets() -> None:
    own = change(SPATIAL, target=float("nan"), macs_reduction=0.3)
    found = lines(DAAR, [lost(SPATIAL[0]), *SPATIAL[1:]], own, change(DAAR, target=float("nan"), macs_reduction=0.3))
    assert found[3][3:] == ["93.20 ± 0.14 (2 of 3; seed 0 missing)", "−0.25 [−0.89, +0.39] tied (n = 2)"]
    assert found[4][0] == "**Ratios of their own**"
    assert [row[-1] for row in found[5:]] == ["reference", "–"]


def test_only_methods_with_several_variants_have_one(tmp_path: Path) -> None:
    at = change(DAAR, variant="at", method="random_at", of="daar", control=True)
    assert ablations.ablated(frame(L1, DAAR, at)) == []
    assert ablations.ablated(frame(L1, DAAR, SPATIAL, at)) == ["daar"]
    names = [path.name for path in write_tables(csv(tmp_path, L1, DAAR, SPATIAL), tmp_path / "tables", CONTEXT)]
    assert [name for name in names if "ablation" in name] == [
        f"cifar10-resnet56-ablation-daar.{end}" for end in ("md", "csv", "tex", "html")
    ]


def test_the_suite_knows_the_same_and_the_defaults_are_those_of_the_method() -> None:
    found = reading.load(Path(__file__).resolve().parents[2] / "workflow" / "config" / "ablations.yaml")
    assert found.ablations == ("daar",)
    defaults = of_suite(found).defaults["daar"]
    assert (defaults["attention"], defaults["boundary"], defaults["adjust"]) == ("dual", "side", True)
    demo = reading.load(Path(__file__).resolve().parents[2] / "workflow" / "config" / "demo.yaml")
    assert demo.ablations == ()
    assert of_suite(demo).sees_images == {"daar"}


def test_schedules_are_a_choice_like_an_option() -> None:
    rounds = {"method": "l1", "schedule": "iterative", "schedule_options": '{"rounds": 3}'}
    group = frame(L1, rows("l1-rounds", (92.0, 92.0, 92.1), **rounds))
    text = ablations.ablation(group, "l1", CONTEXT)[1].set_index("variant")["option_schedule"]
    assert dict(text) == {"l1": "one-shot", "l1-rounds": "iterative, rounds 3"}
