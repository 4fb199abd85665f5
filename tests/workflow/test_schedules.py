"""The four schedules in one suite on digits."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.workflow import kills
from tests.workflow.test_dag import dry_run, snakemake

SUITE = {
    "suite": "schedules",
    "datasets": ["digits"],
    "networks": ["resnet20"],
    "methods": ["l1", "fpgm-soft", "hrank-layerwise"],
    "variants": {
        "l1-rounds": {"method": "l1", "policy": "global", "schedule": "iterative", "schedule_options": {"rounds": 2}},
        "l1-rounds-at": {"random_at": "l1-rounds"},
    },
    "macs_reductions": [0.4],
    "seeds": [0],
    "calibration_images": 64,
    "train": {"epochs": 1, "lr": 0.05, "batch_size": 128, "precision": "float32"},
    "finetune": {"epochs": 3, "lr": 0.02, "batch_size": 128, "precision": "float32"},
}


def write(folder: Path) -> None:
    (folder / "suite.yaml").write_text(yaml.safe_dump(SUITE))


def test_a_schedule_is_one_job_in_place_of_scoring_planning_and_tuning(tmp_path: Path) -> None:
    write(tmp_path)
    jobs = dry_run("--configfile", "suite.yaml", cwd=tmp_path)
    told = {rule: count for rule, count in jobs.items() if not rule.startswith("figure")}
    assert told == {
        **{"pack": 1, "train": 1, "measure": 1, "score_l1": 1, "plan": 1, "random_at": 1, "finetune": 2, "record": 2},
        **{"schedule": 3, "record_scheduled": 3},
        **{"suite": 1, "collect": 1, "tables": 1, "ledger": 1, "page": 1, "all": 1, "total": jobs["total"]},
    }


@pytest.mark.slow
def test_a_suite_of_all_schedules(tmp_path: Path) -> None:
    write(tmp_path)
    done = snakemake("--configfile", "suite.yaml", cwd=tmp_path)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    folder = tmp_path / "results" / "schedules"
    records = {path.parts[-3]: json.loads(path.read_text()) for path in folder.glob("**/record.json")}
    by = {name: record.get("schedule", {"name": None})["name"] for name, record in records.items()}
    assert by == {
        **{"l1": None, "l1-rounds-at": None, "l1-rounds": "iterative"},
        **{"fpgm-soft": "soft", "hrank-layerwise": "layerwise"},
    }
    for record in records.values():
        assert [row["epoch"] for row in record["curve"]] == [1, 2, 3]
        assert record["slim_error"]["max_relative"] <= 1e-10
        assert 0.4 <= record["macs_reduction"] < 0.405
        assert record["recipe"] == records["l1"]["recipe"]
        if "schedule" in record:
            assert sum(record["schedule"]["epochs"]) == 3
            assert record["schedule"]["macs"][-1] == record["macs"]["slim"]
    assert records["l1-rounds"]["schedule"]["epochs"] == [1, 2]
    assert records["hrank-layerwise"]["schedule"]["epochs"] == [1, 1, 1]
    frame = pd.read_csv(folder / "results.csv").set_index("variant")
    assert frame.loc["l1-rounds", "schedule"] == "iterative"
    assert frame.loc["l1-rounds", "schedule_options"] == '{"rounds": 2}'
    assert frame.loc["l1", "schedule"] == "one-shot"
    assert set(frame["epochs"]) == {3}
    table = (folder / "tables" / "digits-resnet20.md").read_text()
    for words in ("| FPGM, soft ", "| HRank, layerwise ", "Level of comparison: S4"):
        assert words in table


@pytest.mark.slow
def test_the_same_command_goes_on_after_kills_in_every_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ["l1-iterative", "fpgm-soft", "hrank-layerwise"]
    changed = {"methods": methods, "finetune": SUITE["finetune"]}
    monkeypatch.setattr(kills, "SUITE", {**kills.SUITE, **changed})
    outcome = kills.kill(6, tmp_path, seed=6)
    assert outcome.kills >= 6
    assert outcome.refused == []
    assert outcome.differing == []
