"""What a row is called: from method, policy and options, in the field's words, no two rows alike."""

from pathlib import Path
from typing import Any

import pytest

from daar.errors import InputError
from daar.suite import names, reading

CONFIG = Path(__file__).resolve().parents[2] / "workflow" / "config"


def suite(**content: Any) -> Any:
    usual = {"suite": "s", "datasets": ["digits"], "networks": ["resnet20"], "finetune": {"epochs": 1}}
    return reading.from_config(usual | {"macs_reductions": [0.5], "seeds": [0]} | content, "here")


def rows(**content: Any) -> list[str]:
    found = suite(**content)
    named = names.of_suite(found)
    return [named.row(setting.variant.name, setting.policy) for setting in found.settings]


def test_a_method_s_own_policy_goes_without_saying() -> None:
    assert rows(methods=["daar", "l1", "random", "lamp"]) == ["DAAR (reconstructed)", "L1", "random (control)", "LAMP"]
    assert rows(methods=["daar", "l1", "random"], policies=["uniform", "adaptive", "global"]) == [
        *("DAAR, uniform rates", "DAAR (reconstructed)", "DAAR, global threshold"),
        *("L1", "L1, adaptive rates", "L1, global threshold"),
        *("random (control)", "random, adaptive rates (control)", "random, global threshold (control)"),
    ]
    own = {"networks": ["resnet56"], "macs_reductions": [None]}
    assert rows(methods=["l1"], policies=["published-pfec-a"], **own) == ["L1, published ratios pfec-a"]
    assert rows(methods=["l1"], policies=["lamp"]) == ["L1, lamp policy"]


def test_a_variant_is_named_by_what_it_changes() -> None:
    variants = {
        "a": {"method": "l1", "policy": "adaptive"},
        "b": {"method": "daar", "options": {"attention": "spatial", "adjust": False}},
        "c": {"method": "daar", "options": {"boundary": 0.5, "adjust": True}},
        "d": {"method": "daar", "options": {"score": "cbam_sigmoid"}, "policy": "uniform"},
    }
    assert rows(methods=["l1"], variants=variants) == [
        *("L1", "L1, adaptive rates", "DAAR, no adjust, attention spatial", "DAAR, adjust, boundary 0.5"),
        "DAAR, score cbam sigmoid, uniform rates",
    ]


def test_a_control_is_named_by_whose_widths_it_has() -> None:
    variants = {
        "half": {"method": "daar", "options": {"boundary": 0.5}},
        **{"r": {"random_at": "daar"}, "h": {"random_at": "half"}},
        **{"s": {"scratch_of": "daar"}, "b": {"scratch_of": "daar", "budget": "compute"}},
    }
    assert rows(methods=["daar"], variants=variants)[2:] == [
        *("random, at DAAR's widths (control)", "random, at the widths of DAAR, boundary 0.5 (control)"),
        "from scratch, at DAAR's widths, same epochs (control)",
        "from scratch, at DAAR's widths, same compute (control)",
    ]


def test_a_suite_may_give_a_title() -> None:
    variants = {"a": {"method": "l1", "title": "Ours"}, "r": {"random_at": "a", "title": "Dice"}}
    assert rows(methods=["l1"], variants=variants, policies=["uniform", "adaptive"]) == [
        *("L1", "L1, adaptive rates", "Ours", "Ours, adaptive rates"),
        *("Dice (control)", "Dice, adaptive rates (control)"),
    ]
    for title in ("", " Ours", "a\nb", 3, "x" * 101):
        with pytest.raises(InputError, match=r"variants\.a\.title"):
            suite(methods=["l1"], variants={"a": {"method": "l1", "title": title}})


def test_no_two_rows_are_named_alike() -> None:
    variants: dict[str, Any] = {name: {"method": "l1", "policy": "adaptive"} for name in ("one", "two")}
    variants["three"] = {"method": "l1", "title": "L1, adaptive rates"}
    shown = rows(methods=["l1"], variants=variants)
    assert shown == ["L1", "L1 [one], adaptive rates", "L1 [two], adaptive rates", "L1, adaptive rates [three]"]
    for file in sorted(CONFIG.glob("*.yaml")):
        found = reading.load(file)
        named = names.of_suite(found)
        cells = {(setting.variant.name, setting.policy) for setting in found.settings}
        assert len({named.row(*cell) for cell in cells}) == len(cells)


def test_the_key_says_whose_the_methods_are() -> None:
    found = suite(methods=["daar", "l1", "random"], variants={"a": {"method": "l1", "policy": "adaptive"}})
    assert names.of_suite(found).key == "Methods: DAAR (reconstructed): Lian et al. 2025; L1: Li et al. 2017."
    assert names.Names().key == ""


def test_what_is_not_known_keeps_its_name() -> None:
    assert names.Names().variant("v") == "v"
    assert names.Names().row("v", "uniform") == "v, uniform rates"
