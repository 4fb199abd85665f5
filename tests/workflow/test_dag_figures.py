"""The figures that the DAG announces are those that are written."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from daar.suite import definition, figures, names, reading
from tests.report.report_files import draw_all, write_setting_files
from tests.report.report_rows import frame, rows
from tests.workflow.test_dag import ROOT, snakemake

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
ALWAYS = ("accuracy-macs", "differences", "accuracy-costs")
KINDS = {
    "usual": {*ALWAYS, "pruning-ratios", "tuning-curves", "rank-correlation"},
    "one scored variant beside controls": {*ALWAYS, "pruning-ratios", "tuning-curves"},
    "nothing tuned": {*ALWAYS, "pruning-ratios", "rank-correlation"},
    "timed": {*ALWAYS, "pruning-ratios", "tuning-curves", "rank-correlation", "accuracy-latency"},
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
def test_a_suite_s_kinds_of_figures(name: str) -> None:
    assert set(figures.kinds(reading.from_config(SUITES[name], "here"))) == KINDS[name]


@pytest.mark.parametrize("name", SUITES)
def test_what_is_written_is_what_was_announced(tmp_path: Path, name: str) -> None:
    found = reading.from_config(SUITES[name], "here")
    data = results(found)
    path = tmp_path / "results.csv"
    data.to_csv(path, index=False)
    write_setting_files(path, data)
    if not found.finetune.epochs:
        for record in tmp_path.rglob("record.json"):
            record.write_text(json.dumps({"curve": []}))
    written = draw_all(path, tmp_path / "figures", names.of_suite(found), figures.scored(found))
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
def test_a_kind_s_rule_names_its_files_and_waits_for_no_others(tmp_path: Path, name: str) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(SUITES[name]))
    done = snakemake("-n", "-p", "--configfile", "tiny.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = re.findall(
        r"^rule figure_(\w+):\n    input: (.*)\n    output: (.*)\n(?:    .*\n)*?Shell command: (.*)$",
        done.stdout + done.stderr,
        re.MULTILINE,
    )
    assert {rule.replace("_", "-") for rule, *_ in jobs} == KINDS[name]
    front = "results/tiny/digits/resnet20"
    always = {"results/tiny/results.csv", "results/tiny/suite.json"}
    cells = {f"{front}/seed{seed}/{v}/uniform-all-0.5" for seed in (0, 1) for v in ("l1", "random", "at", "anew")}
    theirs = SUITES[name]["methods"] + list(SUITES[name].get("variants", {}))
    cells = {cell for cell in cells if cell.split("/")[-2] in theirs}
    reads = {
        "pruning-ratios": {f"{cell}/plan.json" for cell in cells if "/anew/" not in cell},
        "tuning-curves": {f"{cell}/record.json" for cell in cells},
        "rank-correlation": {f"{Path(cell).parent}/importance.safetensors" for cell in cells},
    }
    for rule, inputs, outputs, command in jobs:
        kind = rule.replace("_", "-")
        assert set(inputs.split(", ")) == always | reads.get(kind, set())
        written = {f"results/tiny/figures/digits-resnet20-{kind}.{ending}" for ending in ("svg", "png")}
        assert set(outputs.split(", ")) == written
        assert f" --only {kind} " in command


def test_every_kind_s_caption_says_what_the_method_is() -> None:
    for kind in KINDS["timed"]:
        caption = (ROOT / "workflow" / "report" / f"{kind}.rst").read_text(encoding="utf-8")
        assert "reconstruction from the abstract" in " ".join(caption.split())
