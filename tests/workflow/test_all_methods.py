"""Every method and policy there is in one suite on digits, and each form that a method of several has."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from daar.methods import discovery
from tests.workflow.test_dag import snakemake

FORMS: dict[str, Any] = {
    "taylor-gate": {"method": "taylor", "options": {"form": "gate"}},
    "fisher-group": {"method": "fisher", "options": {"form": "group"}},
    "fisher-weights": {"method": "fisher", "options": {"form": "weights"}},
    "activation-std": {"method": "activation", "options": {"statistic": "std"}},
    "l1-lamp": {"method": "l1", "policy": "lamp"},
    "l1-erk": {"method": "l1", "policy": "erk"},
    "l1-erk-soft": {"method": "l1", "policy": "erk", "policy_options": {"power": 0.5}},
    "l1-adaptive": {"method": "l1", "policy": "adaptive", "policy_options": {"adjust": False}},
}
SUITE = {
    "suite": "every-method",
    "datasets": ["digits"],
    "networks": ["resnet20"],
    "methods": list(discovery.find()),
    "variants": FORMS,
    "macs_reductions": [0.5],
    "seeds": [0],
    "calibration_images": 64,
    "train": {"epochs": 1, "lr": 0.05, "batch_size": 128},
    "finetune": {"epochs": 0},
}


@pytest.mark.slow
def test_a_suite_of_all_methods(tmp_path: Path) -> None:
    (tmp_path / "every.yaml").write_text(yaml.safe_dump(SUITE))
    done = snakemake("--configfile", "every.yaml", cwd=tmp_path)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    records = [json.loads(path.read_text()) for path in tmp_path.glob("results/every-method/**/record.json")]
    assert {record["variant"] for record in records} == {*discovery.find(), *FORMS}
    assert len({record["base"]["sha256"] for record in records}) == 1
    for record in records:
        assert record["slim_error"]["max_relative"] <= 1e-10
        assert 0.5 <= record["macs_reduction"] < 0.503 or record["policy"] != "uniform"
        assert record["seconds"]["score"] >= 0
        assert record["options"].get("policy_options", {}) == FORMS.get(record["variant"], {}).get("policy_options", {})
    frame = pd.read_csv(tmp_path / "results" / "every-method" / "results.csv")
    assert len(frame) == len(records)
    plans = {p.parts[-3]: p.read_bytes() for p in tmp_path.glob("results/every-method/**/plan.json")}
    kept = {name: json.dumps(json.loads(plan)["groups"]) for name, plan in plans.items()}
    # they are different methods; L2 and LAMP rank alike and differ by their policies
    assert len(set(kept.values())) >= len(kept) - 2, "some choose the same filters"
