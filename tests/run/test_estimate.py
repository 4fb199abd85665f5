"""The estimate against arithmetic: every kind of work is there, as often as the suite does it, and sums add up."""

from pathlib import Path
from typing import Any

import pytest
import torch

from daar.device import gpu
from daar.errors import InputError
from daar.run import estimate
from daar.suite import definition, reading
from tests.networks import one_thread  # noqa: F401  # it acts on this module

CPU = torch.device("cpu")


def made(**changes: Any) -> definition.Suite:
    content = {
        "suite": "small",
        "datasets": ["digits"],
        "networks": ["resnet20"],
        "methods": ["l1", "random"],
        "macs_reductions": [0.5, 0.7],
        "seeds": [0, 1],
        "calibration_images": 64,
        "train": {"epochs": 3, "lr": 0.1, "batch_size": 64},
        "finetune": {"epochs": 2, "lr": 0.1, "batch_size": 64},
        **changes,
    }
    return reading.from_config(content, "here")


@pytest.fixture
def unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every timed piece of work takes one second, and a process none to start."""
    monkeypatch.setattr(estimate, "_seconds", lambda *_: 1.0)
    monkeypatch.setattr(estimate, "_start", lambda _: 0.0)
    monkeypatch.setattr(estimate, "_SCHEDULING", 0.0)


@pytest.mark.usefixtures("unit")
def test_jobs_and_seconds_by_hand() -> None:
    found = estimate.estimate(made(), CPU, 1)
    assert found.jobs == {
        **{"train": 2, "measure": 2, "score": 4, "plan": 8, "finetune": 8, "record": 8, "tables and figures": 3}
    }
    images = {"train": 1257, "val": 180, "test": 360}
    steps = -(-images["train"] // 64)
    per_image = 1 / estimate._EVALUATED
    epoch = steps * 1.0 + images["val"] * per_image
    assert found.seconds["train"] == pytest.approx(2 * 3 * epoch)
    assert found.seconds["finetune"] == pytest.approx(8 * (2 * epoch + 1.0))
    assert found.seconds["record"] == pytest.approx(8 * 4 * (images["val"] + images["test"]) * per_image)
    assert found.seconds["score"] == 4.0
    assert found.seconds["plan"] == 0.0
    assert found.hours == pytest.approx(sum(found.seconds.values()) / 3600)


def test_what_is_not_tuned_has_no_steps_to_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_start", lambda _: 0.0)
    untuned = estimate.estimate(made(finetune={"epochs": 0}, networks=["resnet20"]), CPU, 1)
    assert untuned.jobs["finetune"] == 8
    assert 0 < untuned.seconds["finetune"] < untuned.seconds["train"]


@pytest.mark.usefixtures("unit")
@pytest.mark.parametrize(
    ("name", "plans", "checks"), [("l1-soft", 2, 1), ("l1-layerwise", 1, 1), ("l1-iterative", 3, 3)]
)
def test_a_schedule_trains_scores_and_checks_in_one_job(name: str, plans: int, checks: int) -> None:
    finetune = {"epochs": 2 if name == "l1-soft" else 3, "batch_size": 64}
    found = estimate.estimate(made(methods=[name], finetune=finetune), CPU, 1)
    assert found.jobs == {"train": 2, "measure": 2, "schedule": 4, "record": 4, "tables and figures": 3}
    epoch = -(-1257 // 64) + 180 / estimate._EVALUATED
    assert found.seconds["schedule"] == pytest.approx(4 * (finetune["epochs"] * epoch + plans + checks))


@pytest.mark.usefixtures("unit")
def test_imported_weights_are_not_trained_and_scratch_takes_both_budgets() -> None:
    weights = {"base": {"resnet20": {"file": "a.th"}}}
    assert "train" not in estimate.estimate(made(**weights), CPU, 1).jobs
    controls = {"variants": {"again": {"scratch_of": "l1"}}}
    found = estimate.estimate(made(**controls), CPU, 1)
    assert found.jobs["scratch"] == 4
    tuning = (found.seconds["finetune"] - 8) / 8
    assert found.seconds["scratch"] == pytest.approx(4 * (3 / 2 + 1) * tuning)


@pytest.mark.usefixtures("unit")
def test_a_policy_that_asks_for_the_loss_runs_the_network_several_times_for_every_group() -> None:
    found = estimate.estimate(made(methods=["daar"], macs_reductions=[0.5], seeds=[0]), CPU, 1)
    assert found.seconds["plan"] == pytest.approx((5 * 12 + 1) * 64 / estimate._MASKED)


@pytest.mark.usefixtures("unit")
def test_settings_with_a_kept_record_are_not_run() -> None:
    """Of l1 and random, two targets, two seeds: all of random's, and one of l1's."""
    asked = made()
    kept = {setting.path for setting in asked.settings if setting.variant.name == "random"}
    kept.add(next(setting.path for setting in asked.settings if setting.variant.name == "l1"))
    found = estimate.estimate(asked, CPU, 4, kept=kept)
    assert {kind: found.jobs[kind] for kind in ("plan", "finetune", "record", "reuse")} == {
        **{"plan": 3, "finetune": 3, "record": 3, "reuse": 5}
    }
    assert found.side_by_side["finetune"] == 3  # of four places
    everything = estimate.estimate(asked, CPU, 4, kept={setting.path for setting in asked.settings})
    assert everything.jobs == {"train": 2, "score": 4, "reuse": 8, "tables and figures": 3}


def test_the_real_thing_takes_time_for_everything() -> None:
    found = estimate.estimate(made(macs_reductions=[0.5], seeds=[0]), CPU, 1)
    assert all(seconds > 0 for seconds in found.seconds.values())
    text = estimate.to_text(found)
    assert text.splitlines()[-1].startswith("together")
    assert f"{sum(found.jobs.values())} jobs" in text.splitlines()[-1]


@pytest.mark.usefixtures("unit")
@pytest.mark.parametrize("policy", ["uniform", "global", "adaptive"])
def test_multiples_that_miss_the_target_are_said_before_anything_runs(policy: str) -> None:
    estimate.estimate(made(round_to=8, policies=[policy]), CPU, 1)
    with pytest.raises(InputError, match="no widths in such multiples"):
        estimate.estimate(made(round_to=64, policies=[policy]), CPU, 1)


def test_a_recipe_that_distils_has_a_teacher() -> None:
    tuned = {"epochs": 1, "lr": 0.1, "batch_size": 8, "distillation": 0.5}
    found = estimate.estimate(made(macs_reductions=[0.5], seeds=[0], methods=["l1"], finetune=tuned), CPU, 1)
    assert found.seconds["finetune"] > 0


@pytest.mark.usefixtures("unit")
def test_jobs_run_side_by_side_on_shares_of_the_cores() -> None:
    one, four = (estimate.estimate(made(), CPU, cores) for cores in (1, 4))
    assert one.jobs == four.jobs
    # two dense networks with two threads each; eight settings with one, four at once
    assert (four.side_by_side["train"], four.side_by_side["finetune"]) == (2, 4)
    assert four.seconds["train"] == pytest.approx(one.seconds["train"] / 2)
    assert four.seconds["finetune"] == pytest.approx(one.seconds["finetune"] / 4)


@pytest.mark.usefixtures("unit")
def test_more_places_than_jobs_help_no_further() -> None:
    assert estimate.estimate(made(seeds=[0]), CPU, 4, threads=1).side_by_side["train"] == 1


@pytest.mark.parametrize(("jobs", "cores", "threads"), [(1, 8, 8), (3, 2, 1), (3, 8, 2), (200, 64, 4), (0, 4, 4)])
def test_threads_of_a_job(jobs: int, cores: int, threads: int) -> None:
    assert gpu.share_of_cores(jobs, cores) == threads


def test_a_process_that_is_timed_imports_nothing_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "yaml.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert estimate._start("import yaml") > 0
