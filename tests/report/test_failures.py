"""Settings without a record: what is known of them, and how they stand in results.csv."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from daar.cli.main import main
from daar.errors import InputError
from daar.report import fairness
from daar.report.collect import read_results, results_frame, write_results
from daar.report.failures import NO_RECORD, alike, reason, split
from daar.report.statistics import by_variant
from daar.suite import reading
from tests.report.report_files import SIZES, write_importance, write_plan
from tests.report.report_rows import DAAR, L1, frame, lost
from tests.report.test_collect import record

CONTENT: dict[str, Any] = {
    **{"suite": "demo", "datasets": ["digits"], "networks": ["resnet20"], "methods": ["l1", "random"]},
    "variants": {"at": {"random_at": "l1"}},
    **{"macs_reductions": [0.5], "seeds": [0, 1], "calibration_images": 64, "finetune": {"epochs": 1}},
}
SETTING = "demo/digits/resnet20/seed{seed}/{variant}/uniform-all-0.5"
TRACEBACK = """\
epoch 1/2
Traceback (most recent call last):
  File "x.py", line 1, in <module>
torch.OutOfMemoryError: CUDA out of memory.
    tail of   another program
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_record(results: Path, variant: str, seed: int) -> Path:
    control, of = variant != "l1", "l1" if variant == "at" else None
    method = "random_at" if variant == "at" else variant
    changes = {"variant": variant, "method": method, "seed": seed, "control": control, "of": of}
    content = record(base__sha256=f"{seed}" * 64, calibration_images=64, **changes)
    place = results / SETTING.format(seed=seed, variant=variant)
    write_plan(place, SIZES)
    write_importance(place.parent, seed)
    return write(place / "record.json", json.dumps(content))


def test_what_is_missing_is_told_from_the_suite(tmp_path: Path) -> None:
    there = [write_record(tmp_path, "l1", 0), write_record(tmp_path, "random", 1)]
    records, failed = split(reading.from_config(CONTENT, "here"), tmp_path)
    assert sorted(records) == sorted(there)
    known = {(row["variant"], row["seed"]): row for row in failed}
    assert set(known) == {("l1", 1), ("random", 0), ("at", 0), ("at", 1)}
    assert known["at", 0] == {
        **{"suite": "demo", "dataset": "digits", "network": "resnet20", "seed": 0, "variant": "at"},
        **{"method": "random_at", "of": "l1", "control": True, "policy": "uniform", "scope": "all", "target": 0.5},
        **{"calibration_images": 64, "options": "{}", "schedule": "one-shot", "schedule_options": "{}"},
        "failed": NO_RECORD,
    }
    assert (known["random", 0]["control"], known["l1", 1]["control"]) == (True, False)


def test_the_reason_is_the_last_error_of_the_latest_log(tmp_path: Path) -> None:
    found = reading.from_config(CONTENT, "here")
    (setting,) = (s for s in found.settings if s.variant.name == "at" and s.seed == 1)

    def why() -> str:
        return reason(found, setting, tmp_path)

    assert why() == NO_RECORD
    folder = tmp_path / SETTING.format(seed=1, variant="at")
    # written from the first stage to the last: each later one is the likelier reason
    write(tmp_path / "data/digits/pack.log", "daar: error: no data")
    assert why() == "no data"
    write(tmp_path / "dense" / found.dense_path("digits", "resnet20", 1) / "train.log", "daar: error: no dense network")
    assert why() == "no dense network"
    write(tmp_path / "demo/digits/resnet20/seed1/l1/score.log", "daar: error: no importance")
    assert why() == "no importance"
    write(folder / "plan.log", "all is well: error: none\n")
    assert why() == "no importance"
    write(folder / "finetune.log", TRACEBACK)
    assert why() == "torch.OutOfMemoryError: CUDA out of memory."
    write(folder / "record.log", "daar: error: first\ndaar: error: the loss is nan;  lower lr\nlast line\n")
    assert why() == "the loss is nan; lower lr"
    (folder / "record.log").write_bytes(b"\xff\xfe daar: error\n")
    assert why() == "torch.OutOfMemoryError: CUDA out of memory."


def test_failed_settings_survive_the_round_trip(tmp_path: Path) -> None:
    write_record(tmp_path, "l1", 0)
    records, failed = split(reading.from_config(CONTENT, "here"), tmp_path)
    failed[0]["failed"] = 'loss is "nan", epoch 1'
    out = write_results(records, tmp_path / "results.csv", failures=failed)
    found = read_results(out)
    expected = results_frame([json.loads(path.read_text()) for path in records], failed[::-1])
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert len(found) == 6
    assert found["failed"].isna().sum() == 1
    assert 'loss is "nan", epoch 1' in set(found["failed"].dropna())
    for name in ("top1_tuned", "macs_dense", "imported", "saw_val", "epochs", "base_sha256"):
        assert found[name].isna().sum() == 5, name


def test_a_blank_number_of_a_finished_setting_is_damage(tmp_path: Path) -> None:
    out = write_results([write_record(tmp_path, "l1", 0)], tmp_path / "results.csv")
    out.write_text(out.read_text().replace(",40551808,", ",,"))
    with pytest.raises(InputError, match="macs_dense is blank for a setting that has not failed"):
        read_results(out)


def test_means_are_of_what_finished_and_n_says_so() -> None:
    # 92.5 and 93.0 are left: mean 92.75, sample deviation 0.5 / √2
    row = by_variant(frame([L1[0], lost(L1[1]), L1[2]])).iloc[0]
    assert (row["n"], row["n_asked"], row["failed_seeds"], row["bases"]) == (2, 3, "1", 2)
    assert row["top1_tuned_mean"] == pytest.approx(92.75)
    assert row["top1_tuned_std"] == pytest.approx(0.5 / 2**0.5)
    none = by_variant(frame([lost(row) for row in L1])).iloc[0]
    assert (none["n"], none["n_asked"], none["failed_seeds"]) == (0, 3, "0, 1, 2")
    assert pd.isna(none["top1_tuned_mean"])
    assert pd.isna(none["macs_slim_mean"])


def test_a_failed_seed_has_taken_part() -> None:
    fairness.check(frame(L1, [lost(DAAR[0]), *DAAR[1:]]))
    fairness.check(frame(L1, [lost(row) for row in DAAR]))
    with pytest.raises(InputError, match="Run seed 0 too"):
        fairness.check(frame(L1, DAAR[1:]))


def report(folder: Path, *arguments: str) -> None:
    main(["report", str(folder / "suite.yaml"), "--results", str(folder), *arguments])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "suite.yaml", yaml.safe_dump(CONTENT))
    for variant in ("l1", "random", "at"):
        write_record(tmp_path, variant, 0)
    write_record(tmp_path, "random", 1)
    write(tmp_path / SETTING.format(seed=1, variant="l1") / "finetune.log", "daar: error: the loss | is nan\n")
    with pytest.raises(SystemExit, match="2"):
        report(tmp_path)
    said = capsys.readouterr().err
    assert "seed1/l1/uniform-all-0.5/record.json should be a record" in said
    assert "daar report SUITE.yaml --partial" in said
    assert not (tmp_path / "demo" / "results.csv").exists()
    with pytest.raises(SystemExit, match="2"):
        report(tmp_path, "--partial", "--only", "tables")
    assert "Give only one of them" in capsys.readouterr().err
    report(tmp_path, "--partial")
    assert set(read_results(tmp_path / "demo" / "results.csv")["failed"].dropna()) == {"the loss | is nan", NO_RECORD}


def test_settings_that_only_seeds_tell_apart_are_named_once() -> None:
    rows = [lost(L1[0], "a"), lost(DAAR[0], "a"), lost(L1[2], "a"), lost(L1[1], "b")]
    named = [(row["variant"], seeds, row["failed"]) for row, seeds in alike(frame(rows))]
    assert named == [("l1", "seeds 0, 2", "a"), ("daar", "seed 0", "a"), ("l1", "seed 1", "b")]


def test_a_run_that_was_cut_off_before_its_picture_is_reported_on(tmp_path: Path) -> None:
    content = {**CONTENT, "methods": ["daar", "l1"], "variants": {}, "policies": ["uniform"]}
    write(tmp_path / "suite.yaml", yaml.safe_dump(content))
    write_record(tmp_path, "l1", 0)
    report(tmp_path, "--partial")
    text = (tmp_path / "demo" / "tables" / "digits-resnet20.md").read_text()
    assert re.search(rf"- Missing: DAAR.*, target 50%, seeds 0, 1: {NO_RECORD}\n", text)
    assert "attention" not in " ".join(path.name for path in (tmp_path / "demo" / "figures").iterdir())


def test_partial_changes_nothing_where_nothing_failed(tmp_path: Path) -> None:
    write(tmp_path / "suite.yaml", yaml.safe_dump(CONTENT))
    for variant in ("l1", "random", "at"):
        for seed in (0, 1):
            write_record(tmp_path, variant, seed)
    written = []
    for arguments in ([], ["--partial"]):
        report(tmp_path, *arguments)
        files = sorted(path for path in (tmp_path / "demo").rglob("*") if path.suffix in (".csv", ".md", ".svg"))
        written.append({path: path.read_bytes() for path in files})
    assert written[0] == written[1]
