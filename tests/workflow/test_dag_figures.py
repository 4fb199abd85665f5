"""The figures that the DAG announces are those that are written."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from daar.suite import definition, figures, reading
from tests.report.report_files import draw_all, write_setting_files
from tests.report.report_rows import frame, rows
from tests.workflow.test_dag import snakemake

PLAIN: dict[str, Any] = {
    **{"suite": "tiny", "datasets": ["digits"], "networks": ["resnet20"], "macs_reductions": [0.5], "seeds": [0, 1]},
    **{"finetune": {"epochs": 1}, "methods": ["l1", "random"]},
}
SUITES = {
    "usual": PLAIN,
    "one scored variant beside controls": {
        **{**PLAIN, "methods": ["l1"]},
        "variants": {"at": {"random_at": "l1"}, "anew": {"scratch_of": "l1"}},
    },
    "nothing tuned": {**PLAIN, "finetune": {"epochs": 0}},
    "timed": {**PLAIN, "latency": True},
}
KINDS = {
    "usual": {"accuracy-macs", "pruning-ratios", "tuning-curves", "rank-correlation"},
    "one scored variant beside controls": {"accuracy-macs", "pruning-ratios", "tuning-curves"},
    "nothing tuned": {"accuracy-macs", "pruning-ratios", "rank-correlation"},
    "timed": {"accuracy-macs", "pruning-ratios", "tuning-curves", "rank-correlation", "accuracy-latency"},
}


def results(found: definition.Suite) -> pd.DataFrame:
    """What collect would make of the suite, with invented numbers."""
    blank = {
        f"latency_ms_{which}_b{size}": 1.0 if found.latency else None
        for which in ("dense", "slim")
        for size in (1, 128)
    }
    made = []
    for variant in found.variants:
        own: dict[str, Any] = {"suite": "tiny", "dataset": "digits", "network": "resnet20", "of": variant.of}
        own["method"] = variant.method
        own |= {"control": variant.name in figures.controls(found), "epochs": found.finetune.epochs}
        made.append(rows(variant.name, (90.0, 91.0), **own, **blank))
    return frame(*made)


@pytest.mark.parametrize("name", SUITES)
def test_what_is_written_is_what_was_announced(tmp_path: Path, name: str) -> None:
    found = reading.from_config(SUITES[name], "here")
    assert set(figures.kinds(found)) == KINDS[name]
    data = results(found)
    path = tmp_path / "results.csv"
    data.to_csv(path, index=False)
    write_setting_files(path, data)
    if not found.finetune.epochs:
        for record in tmp_path.rglob("record.json"):
            record.write_text(json.dumps({"curve": []}))
    written = draw_all(path, tmp_path / "figures", found.titles(), figures.scored(found))
    expected = {f"digits-resnet20-{kind}.{ending}" for kind in KINDS[name] for ending in ("svg", "png")}
    assert {path.name for path in written} == expected == {path.name for path in (tmp_path / "figures").iterdir()}


def test_controls_and_scored_variants() -> None:
    found = reading.from_config(SUITES["one scored variant beside controls"], "here")
    assert (figures.controls(found), figures.scored(found)) == (("at", "anew"), ("l1",))
    usual = reading.from_config(PLAIN, "here")
    assert (figures.controls(usual), figures.scored(usual)) == (("random",), ("l1", "random"))


def test_equal_scores_stand_once() -> None:
    """Rates change no score: neither another policy nor an option of plan() does; an option of score() does."""
    variants = {
        "l1-adaptive": {"method": "l1", "policy": "adaptive"},
        "daar-unadjusted": {"method": "daar", "options": {"adjust": False}},
        "daar-spatial": {"method": "daar", "options": {"attention": "spatial"}},
    }
    found = reading.from_config({**PLAIN, "methods": ["l1", "daar"], "variants": variants}, "here")
    assert figures.scored(found) == ("l1", "daar", "daar-spatial")


@pytest.mark.parametrize("name", ["one scored variant beside controls", "timed"])
def test_the_rule_names_its_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(SUITES[name]))
    done = snakemake("-n", "--configfile", "tiny.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    job = re.search(r"^rule figures:\n    input: (.*)\n    output: (.*)$", done.stdout + done.stderr, re.MULTILINE)
    assert job
    inputs, outputs = (set(files.split(", ")) for files in job.groups())
    figures = "results/tiny/figures/digits-resnet20"
    assert outputs == {f"{figures}-{kind}.{ending}" for kind in KINDS[name] for ending in ("svg", "png")}
    front = "results/tiny/digits/resnet20/seed1"
    assert f"{front}/l1/uniform-all-0.5/plan.json" in inputs
    assert f"{front}/l1/importance.safetensors" in inputs
    assert f"{front}/l1/uniform-all-0.5/record.json" in inputs
    assert not {file for file in inputs if "/anew/" in file and file.endswith("plan.json")}
    assert not {file for file in inputs if "/at/importance" in file}


def test_every_kind_has_a_caption_and_a_label() -> None:
    root = Path(__file__).resolve().parents[2] / "workflow"
    rules = (root / "rules" / "common.smk").read_text(encoding="utf-8")
    for kind in KINDS["timed"]:
        assert f'"{kind}": ' in rules
        caption = (root / "report" / f"{kind}.rst").read_text(encoding="utf-8")
        assert "reconstruction from the abstract" in " ".join(caption.split())
