"""Requests of jobs against arithmetic; costs survive a file, and none is used that was measured for another suite."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from daar.cli.main import main
from daar.cluster import costs, requests
from daar.cluster.costs import Cost, Measured
from daar.errors import InputError
from daar.run import estimate
from daar.suite import definition, reading

CELL = ("cifar10", "resnet20", "l1", "uniform", 0.5)


def made(**changes: Any) -> definition.Suite:
    content = {
        "suite": "small",
        "datasets": ["cifar10"],
        "networks": ["resnet20"],
        "methods": ["l1"],
        "macs_reductions": [0.5],
        "seeds": [0, 1],
        "train": {"epochs": 100},
        "finetune": {"epochs": 40},
        **changes,
    }
    return reading.from_config(content, "here")


def measured(found: definition.Suite, **changes: Any) -> Measured:
    tuning = Cost("finetune", "cifar10", "resnet20", 2, 3540.0, "l1", "uniform", 0.5)
    return replace(Measured(costs.fingerprint(found), "cpu", "a machine", 1, 1000, (tuning,)), **changes)


def test_a_measured_job_asks_for_twice_its_time_and_for_more_on_every_retry() -> None:
    asked = requests.Requests(made(), measured(made()), gpus=False)
    # 2 · 3540 s and two minutes to start
    assert [asked.minutes("finetune", attempt, *CELL) for attempt in (1, 2, 3)] == [120, 240, 360]
    assert asked.minutes("finetune", 1, *CELL, times=2) == 238


def test_a_retry_asks_for_no_more_than_there_is() -> None:
    asked = requests.Requests(made(), measured(made()), gpus=False, ceiling=(2500, 150))
    assert [asked.minutes("finetune", attempt, *CELL) for attempt in (1, 2)] == [120, 150]
    first = requests.Requests(made(), measured(made()), gpus=False).memory_mb(1, "cifar10")
    assert [asked.memory_mb(attempt, "cifar10") for attempt in (1, 2)] == [first, 2500]
    # too much from the start is refused by the scheduler, not hidden
    assert requests.Requests(made(), measured(made()), gpus=False, ceiling=(1, 1)).minutes("finetune", 1, *CELL) == 120


def test_an_unmeasured_job_s_time_follows_from_its_macs() -> None:
    cpu, gpu = (requests.Requests(made(), None, gpus=gpus) for gpus in (False, True))
    # 6 FLOPs for each of 40.55 M MACs, 45,000 images, 100 epochs, at 50 GFLOP/s, five times that; and two minutes
    seconds = 5 * 6 * 40_551_040 * 45_000 * 100 / 5e10
    assert cpu.minutes("train", 1, "cifar10", "resnet20") == pytest.approx(seconds / 60 + 2, abs=1)
    assert gpu.minutes("train", 1, "cifar10", "resnet20") == pytest.approx(seconds / 100 / 60 + 2, abs=1)
    assert cpu.minutes("record", 1, *CELL) == 12
    assert cpu.minutes("schedule", 1, *CELL) > cpu.minutes("finetune", 1, *CELL) + 5
    assert cpu.minutes("scratch", 1, *CELL) > 2 * cpu.minutes("train", 1, "cifar10", "resnet20")


def test_memory_holds_the_images_twice_and_grows() -> None:
    asked = requests.Requests(made(), measured(made()), gpus=False)
    images = 60_000 * 3 * 32 * 32 / 1e6
    first, second = (asked.memory_mb(attempt, "cifar10") for attempt in (1, 2))
    assert 1.25 * (1000 + 2 * images) <= first < 1.25 * (1000 + 2 * images) + 256
    assert (first % 256, second) == (0, 2 * first)
    # decoded from their files as they are needed
    assert asked.memory_mb(1, "imagenet") == 1280


def test_costs_survive_a_file(tmp_path: Path) -> None:
    costs.write(tmp_path / "costs.json", measured(made()))
    assert costs.read(tmp_path / "costs.json") == measured(made())


def test_costs_are_used_for_the_suite_that_they_were_measured_for(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    assert requests.for_suite(made(), path, gpus=False)[1] == f"no {path} yet"
    costs.write(path, measured(made()))
    asked, reason = requests.for_suite(made(), path, gpus=False)
    assert (asked.minutes("finetune", 1, *CELL), reason) == (120, None)
    for changes in ({"finetune": {"epochs": 41}}, {"calibration_images": 64}, {"scope": "inner"}):
        asked, reason = requests.for_suite(made(**changes), path, gpus=False)
        assert "was measured for other recipes or variants" in str(reason), changes
        assert asked.minutes("finetune", 1, *CELL) != 120, changes
    # more seeds take as long each
    assert requests.for_suite(made(seeds=[0, 1, 2]), path, gpus=False)[1] is None


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 9}', '{"format": 1, "costs": [{}]}', "no JSON"])
def test_another_file_is_named_and_not_used(tmp_path: Path, text: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"costs\.json.*Make it again"):
        costs.read(path)
    assert "costs.json" in str(requests.for_suite(made(), path, gpus=False)[1])


def test_the_command_measures_writes_and_simulates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estimate, "_seconds", lambda *_: 1.0)
    monkeypatch.setattr(estimate, "_start", lambda _: 0.0)
    content: dict[str, Any] = {"suite": "small", "datasets": ["digits"], "networks": ["resnet20"], "methods": ["l1"]}
    content |= {"macs_reductions": [0.5], "seeds": [0, 1], "finetune": {"epochs": 1}}
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(content))
    told = ["suite", "check", str(file), "--cluster", "--threads", "1", "--machines", "1", "3"]
    main([*told, "--results", str(tmp_path / "results"), "--device", "cpu"])
    found = costs.read(tmp_path / "results" / "small" / "costs.json")
    kinds = {cost.kind: cost.count for cost in found.costs}
    assert kinds == {
        "train": 2,
        "measure": 2,
        "score": 2,
        "plan": 2,
        "finetune": 2,
        "record": 2,
        "tables and figures": 3,
    }
    assert (found.of, found.threads, found.device) == (costs.fingerprint(reading.load(file)), 1, "cpu")
    assert "12 jobs in 6 queue entries (2 dense, 2 importance, 2 tuning)" in capsys.readouterr().out
