"""Schedules as a suite says them: long, short, wrong; and what follows for hashes, titles and files."""

from pathlib import Path
from typing import Any

import pytest

from daar.errors import InputError
from daar.run import code, reuse
from daar.run.dag import Dag
from daar.suite import figures, names, reading
from daar.suite.definition import Setting, Suite
from daar.training.recipe import Recipe
from daar.training.schedules import Schedule, parts

SMALL: dict[str, Any] = {
    **{"suite": "small", "datasets": ["digits"], "networks": ["resnet20"], "macs_reductions": [0.5], "seeds": [0]},
    **{"methods": ["l1"], "calibration_images": 64, "finetune": {"epochs": 30}},
}
ROUNDS = {"method": "l1", "schedule": "iterative", "schedule_options": {"rounds": 3}}


def make(**changes: Any) -> Suite:
    return reading.from_config({**SMALL, **changes}, "here")


def setting(suite: Suite, variant: str) -> Setting:
    return next(one for one in suite.settings if one.variant.name == variant)


def test_a_schedule_is_said_long_or_short() -> None:
    found = make(
        methods=["l1", "fpgm-soft", "hrank-layerwise"],
        variants={"mine": {"method": "fpgm-soft", "policy": "global"}, "long": {"method": "fpgm", "schedule": "soft"}},
    )
    by = {v.name: (v.method, v.schedule and v.schedule.to_json()) for v in found.variants}
    soft = {"name": "soft", "options": {"interval": 1}}
    assert by == {
        "l1": ("l1", None),
        "fpgm-soft": ("fpgm", soft),
        "hrank-layerwise": ("hrank", {"name": "layerwise", "options": {"steps": None}}),
        "mine": ("fpgm", soft),
        "long": ("fpgm", soft),
    }
    assert found.variant("mine").policy == "global"


def test_names_say_the_schedule() -> None:
    made = names.of_suite(
        make(
            methods=["l1", "fpgm-soft"],
            variants={"r": {**ROUNDS, "policy": "uniform"}, "far": {"method": "fpgm-soft", "policy": "global"}},
        )
    )
    assert made.row("l1", "uniform") == "L1"
    assert made.row("fpgm-soft", "uniform") == "FPGM, soft"
    assert made.row("r", "uniform") == "L1, iterative, 3 rounds"
    assert made.row("far", "global") == "FPGM, soft, global threshold"


def test_one_shot_said_and_not_said_are_one_setting() -> None:
    said = make(variants={"said": {"method": "l1", "schedule": "one-shot"}})
    assert said.variant("said").schedule is None
    assert reuse.made_from(said, setting(said, "said")) == reuse.made_from(make(), make().settings[0])


def test_hash_and_stages_follow_the_schedule_and_its_options() -> None:
    found = make(
        variants={
            **{"three": ROUNDS, "default": {"method": "l1", "schedule": "iterative"}},
            **{"two": {**ROUNDS, "schedule_options": {"rounds": 2}}, "soft": {"method": "l1-soft"}},
            **{"at": {"random_at": "three"}, "of": {"scratch_of": "two"}, "at-l1": {"random_at": "l1"}},
        }
    )
    hashes = {v.name: reuse.made_from(found, setting(found, v.name)) for v in found.variants}
    assert hashes["three"] == hashes["default"]
    assert len(set(hashes.values())) == len(hashes) - 1
    assert hashes["l1"] == reuse.made_from(make(), make().settings[0])
    assert code.of_setting(found, setting(found, "soft")) == ("train", "schedule", "record_scheduled")
    assert code.of_setting(found, setting(found, "at"))[1:] == ("schedule", "finetune", "random_at", "record")
    assert code.of_setting(found, setting(found, "l1"))[1:] == ("score", "plan", "finetune", "record")
    assert setting(found, "three").path == "digits/resnet20/seed0/three/uniform-all-0.5"


def test_only_its_own_rule_makes_a_scheduled_variant() -> None:
    dag = Dag(make(methods=["l1", "fpgm-soft"], variants={"r": ROUNDS, "at": {"random_at": "r"}}))
    assert dag.scheduled.split("|") == [r"fpgm\-soft", "r"]
    assert dag.variants_of("l1") == "l1"
    assert dag.variants_of("fpgm") == "(?!)"
    assert dag.variants_but("scratch_of").split("|") == ["l1", "at"]
    assert figures.scored(dag.suite) == ("l1",)


def test_what_a_method_says_of_one_shot_is_left_out_where_it_is_not() -> None:
    found = make(methods=["fpgm", "fpgm-soft"]).deviations()
    assert any(phrase.startswith("one-shot") for phrase in found["fpgm"])
    assert not any("one-shot" in phrase for phrase in found["fpgm-soft"])
    assert "begins with the trained network and ends with the tuning's epochs" in found["fpgm-soft"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"variants": {"x": {"method": "l1", "schedule": "hard"}}}, "unknown schedule in here: variants.x 'hard'"),
        ({"variants": {"x": {**ROUNDS, "schedule_options": {"steps": 3}}}}, "has no option 'steps'; it has rounds"),
        ({"variants": {"x": {**ROUNDS, "schedule_options": {"rounds": 0}}}}, "rounds of schedule iterative is 0; "),
        ({"variants": {"x": {**ROUNDS, "schedule_options": {"rounds": 2.5}}}}, "rounds"),
        ({"variants": {"x": {**ROUNDS, "schedule_options": {"rounds": True}}}}, "rounds"),
        ({"variants": {"x": {"method": "l1", "schedule_options": {"rounds": 2}}}}, "schedule_options, but no schedule"),
        ({"variants": {"x": {"method": "l1-soft", "schedule": "soft"}}}, "l1-soft has a schedule already. Name l1"),
        ({"variants": {"x": {"random_at": "l1", "schedule": "soft"}}}, "'schedule', which random_at does not take"),
        ({"methods": ["l1-soft"], "finetune": {"ema": 0.9}}, "schedule soft zeroes .* Take ema out of finetune"),
        ({"variants": {"x": ROUNDS}, "finetune": {"epochs": 2}}, "x: schedule iterative needs 3 rounds .* has 2 in"),
        ({"methods": ["l1-soft"], "finetune": {"epochs": 0}}, "soft needs 1 epoch or more, .* 0 in all. Raise the"),
        ({"methods": ["daar-iterative"], "macs_reductions": [None]}, "daar-iterative: schedule iterative divides the"),
        ({"methods": ["l1-soft"], "distributed": {"processes": 2}}, "l1-soft: schedule soft runs in one process"),
        ({"methods": ["nope-soft"]}, "unknown method in here 'nope-soft'"),
        ({"methods": ["l1-hard"]}, "unknown method in here 'l1-hard'"),
    ],
)  # fmt: skip
def test_what_a_suite_cannot_have_is_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        make(**changes)
    assert "\n" not in str(error.value)


def test_a_program_of_its_own_cannot_be_asked_again(tmp_path: Path) -> None:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "method.py").write_text('from daar.api import MethodInfo\nINFO = MethodInfo(name="outside", title="x")\n')
    (folder / "rule.smk").write_text("")
    with pytest.raises(InputError, match="scores while it runs, but the method 'outside' is a program of its own"):
        make(methods=["outside-soft"], methods_dirs=[str(tmp_path)])


@pytest.mark.parametrize(("total", "number"), [(30, 3), (31, 3), (5, 5), (0, 1), (7, 4)])
def test_parts_are_as_equal_as_can_be_and_sum_up(total: int, number: int) -> None:
    made = parts(total, number)
    assert sum(made) == total
    assert len(made) == number
    assert max(made) - min(made) <= 1


def test_layers_are_as_many_as_there_are_unless_said() -> None:
    assert Schedule("layerwise", (("steps", None),)).problem(Recipe(epochs=1)) is None
    assert Schedule("layerwise", (("steps", 4),)).problem(Recipe(epochs=3)) is not None
