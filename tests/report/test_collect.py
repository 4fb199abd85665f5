"""From records to results.csv, and the whole way to tables and figures."""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest

from daar.errors import InputError
from daar.report import accuracies, markdown
from daar.report.collect import COLUMNS, load_records, read_results, results_frame, write_results
from daar.report.context import Context
from daar.report.tables import write_tables
from daar.storage import schemas
from daar.suite.definition import Setting
from daar.suite.records import place
from tests.report.report_files import draw_all, write_setting_files
from tests.report.report_rows import named

ACCURACIES = {"dense": 98.0, "pruned": 20.0, "recalibrated": 70.1, "tuned": 97.3, "best_val": None}
RECORD: dict[str, Any] = {
    **{"format": 1, "suite": "demo", "dataset": "digits", "network": "resnet20", "seed": 0, "variant": "l1"},
    **{"method": "l1", "options": {}, "policy": "uniform", "scope": "all", "target": 0.5, "control": False, "of": None},
    "base": {"sha256": "1" * 64, "imported": False, "saw_val": False},
    # both would be numbers to a careless CSV reader
    **{
        "recipe": "000000000012",
        "train_recipe": "1234567890e5",
        "made_from": "0123456789ab",
        "calibration_images": 640,
    },
    "top1": {"test": ACCURACIES, "val": dict.fromkeys(ACCURACIES)},
    "top5": None,
    "macs": {
        "dense": 40551808,
        "slim": 20275904,
        "slim_closed_form": 20275904,
        "dense_thop": None,
        "slim_thop": 20300000,
    },
    **{"params": {"dense": 272474, "slim": 136237}, "macs_reduction": 0.5, "params_reduction": 0.5},
    "slim_error": {"max_relative": 1.1e-16, "dtype": "float64", "images": 16},
    "seconds": {"score": 0.1, "plan": 0.2, "finetune": 4 / 3, "measure": 0.4},
    "peak_memory_mib": {"finetune": 812.5},
    "curve": [{"epoch": 1, "lr": 0.01, "loss": 0.5, "train_top1": 90.0, "val_top1": None, "seconds": 1.0}],
    "hardware": {"cpu": 'A, "fast" CPU', "cores": 2, "gpu": None},
    **{"threads": 2, "versions": {"daar": "0.1.0", "torch": "2.9.0"}, "commit": "1234567"},
}


def record(**changes: Any) -> dict[str, Any]:
    """RECORD with some keys changed; `base__sha256` is the key sha256 in base."""
    changed = copy.deepcopy(RECORD)
    for path, value in changes.items():
        *parents, key = path.split("__")
        place = changed
        for parent in parents:
            place = place[parent]
        place[key] = value
    return changed


def of_setting(setting: Setting, suite: str) -> dict[str, Any]:
    """What a record of a setting says of it."""
    names = ("dataset", "network", "seed", "policy", "scope", "target")
    return {"suite": suite, "variant": setting.variant.name, **{name: getattr(setting, name) for name in names}}


def write(folder: Path, *records: dict[str, Any]) -> list[Path]:
    paths = [folder / f"{index}" / one["suite"] / place(one) / "record.json" for index, one in enumerate(records)]
    for path, content in zip(paths, records, strict=True):
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    return paths


def objects(schema: dict[str, Any], name: str = "record") -> Iterator[tuple[str, dict[str, Any]]]:
    yield name, schema
    for group in ("properties", "$defs"):
        for key, value in schema.get(group, {}).items():
            yield from objects(value, f"{name}.{key}")
    if "items" in schema:
        yield from objects(schema["items"], f"{name}[]")


def test_schema_is_sound_and_describes_every_key() -> None:
    schema = schemas.schema("record")
    jsonschema.Draft202012Validator.check_schema(schema)
    for name, part in objects(schema):
        assert "$ref" in part or part["description"].endswith("."), name
        if "properties" in part and name not in ("record.seconds", "record.peak_memory_mib"):
            assert part["additionalProperties"] is False, name
            # earlier records do not have one, and those in one shot not the other
            later = {"precision", "schedule"} if name == "record" else set()
            assert set(part["required"]) == set(part["properties"]) - later, name
        if part.get("type") == "number":  # a number without a unit says nothing
            assert re.search("; |fraction|nats", part["description"]), name


def test_round_trip_is_exact(tmp_path: Path) -> None:
    thirds = record(
        seed=1, target=None, top1__test__tuned=100 / 3, macs__dense=2**53 + 1, hardware__gpu="NA", commit=None
    )
    paths = write(
        tmp_path, record(variant="null"), thirds, record(seed=2, top5={"test": ACCURACIES, "val": ACCURACIES})
    )
    out = write_results(paths, tmp_path / "out" / "results.csv")
    pd.testing.assert_frame_equal(read_results(out), results_frame(load_records(paths)), check_exact=True)


def test_columns() -> None:
    row = results_frame([record(options={"b": 1, "a": 2}, top1__val__tuned=96.5)]).iloc[0]
    assert list(row.index) == list(COLUMNS)
    assert (row["top1_tuned"], row["val_top1_tuned"], row["delta_top1"]) == (97.3, 96.5, 97.3 - 98.0)
    assert (row["base_sha256"], row["epochs"], row["options"]) == ("1" * 64, 1, '{"a": 2, "b": 1}')
    assert (row["seconds_finetune"], row["peak_memory_mib_finetune"]) == (4 / 3, 812.5)
    for blank in ("peak_memory_mib_score", "macs_dense_thop", "hardware_gpu", "top5_tuned", "top1_best_val"):
        assert pd.isna(row[blank]), blank


def test_tuning_that_was_resumed_costs_what_all_its_tries_took() -> None:
    epochs = [RECORD["curve"][0] | {"epoch": e, "seconds": s} for e, s in ((1, 300.0), (2, 310.0))]
    resumed, whole, unknown, untuned = (
        record(curve=curve, seconds=seconds)
        for curve, seconds in ((epochs, {"finetune": 43.0}), (epochs, {"finetune": 615.5}), (epochs, {}), ([], {}))
    )
    found = [results_frame([one])["seconds_finetune"].iloc[0] for one in (resumed, whole, unknown, untuned)]
    assert found[:3] == [610.0, 615.5, 610.0]
    assert pd.isna(found[3])


def test_order_of_rows_is_that_of_the_settings() -> None:
    records = [record(seed=s, target=t, variant=v) for s in (0, 1) for t in (None, 0.7, 0.5) for v in ("b", "a")]
    frame = results_frame(records)
    pd.testing.assert_frame_equal(frame, results_frame(records[::-1]))
    assert list(frame["target"].dropna()) == [0.5] * 4 + [0.7] * 4
    assert list(frame["variant"]) == ["a", "a", "b", "b"] * 3
    assert list(frame["seed"]) == [0, 1] * 6


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"top1__test__tuned": "97"}, "top1.test.tuned"),
        ({"top1__test__tuned": None}, "top1.test.tuned"),
        ({"top1__test__tuned": float("nan")}, "NaN"),
        ({"top1__test__tuned": 101}, "top1.test.tuned"),
        ({"seconds__plan": float("inf")}, "Infinity"),
        ({"format": 2}, "format"),
        ({"seed": 0.5}, "seed"),
        ({"control": 1}, "control"),
        ({"target": 1.0}, "target"),
        ({"dataset": "../digits"}, "dataset"),
        ({"base__sha256": "1" * 63}, "base.sha256"),
        ({"extra": 1}, "extra"),
        ({"macs__gpu": 1}, "gpu"),
        ({"curve": [{"epoch": 1}]}, "curve[0]"),
    ],
)
def test_wrong_value_names_file_and_key(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    (path,) = write(tmp_path, record(**changes))
    with pytest.raises(InputError) as error:
        load_records([path])
    assert str(path) in str(error.value)
    assert key in str(error.value).removeprefix(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", sorted(RECORD))
def test_missing_key_is_named(tmp_path: Path, key: str) -> None:
    (path,) = write(tmp_path, RECORD)
    path.write_text(json.dumps({name: value for name, value in RECORD.items() if name != key}))
    with pytest.raises(InputError, match=f"record.json.*'{key}' is a required property"):
        load_records([path])


def test_unreadable_records(tmp_path: Path) -> None:
    damaged = tmp_path / "record.json"
    damaged.write_text(json.dumps(RECORD)[:-9])
    for path in (damaged, tmp_path / "none.json"):
        with pytest.raises(InputError, match=re.escape(str(path))):
            load_records([path])
    damaged.write_text("[1, 2]")
    with pytest.raises(InputError, match="not of type 'object'"):
        load_records([damaged])
    with pytest.raises(InputError, match="at least one record"):
        load_records([])


def test_duplicate_settings_name_both_files(tmp_path: Path) -> None:
    first, second = write(tmp_path, record(), record(recipe="f" * 12))
    with pytest.raises(InputError) as error:
        load_records([first, second])
    assert str(first) in str(error.value)
    assert str(second) in str(error.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("top1_tuned", "top1", 1),
        lambda text: text.splitlines()[0] + "\n",
        lambda text: text.replace(",640,", ",many,"),
        lambda text: text + '"',
        lambda _: "",
    ],
)
def test_damaged_results(tmp_path: Path, damage: Any) -> None:
    out = write_results(write(tmp_path, record()), tmp_path / "results.csv")
    out.write_text(damage(out.read_text()))
    with pytest.raises(InputError, match=r"should be a results\.csv"):
        write_tables(out, tmp_path / "tables", Context())
    assert not (tmp_path / "tables").exists()


def build(paths: list[Path], out: Path) -> list[Path]:
    results = write_results(paths, out / "results.csv")
    write_setting_files(results, read_results(results))
    return [results, *write_tables(results, out / "tables", Context()), *draw_all(results, out / "figures", named())]


def test_each_step_returns_what_it_writes(tmp_path: Path) -> None:
    records = [
        record(network=network, seed=seed, base__sha256=f"{seed}" * 64)
        for network in ("resnet20", "vgg16.bn")
        for seed in (0, 1)
    ]
    paths = build(write(tmp_path, *records), tmp_path / "out")
    names = [path.relative_to(tmp_path / "out").as_posix() for path in paths]
    pairs = ("digits-resnet20", "digits-vgg16.bn")
    assert names == [
        "results.csv",
        *(
            f"tables/{pair}{name}"
            for pair in pairs
            for name in (
                *(".md", ".csv", ".tex", ".html", "-differences.csv"),
                *("-costs.md", "-costs.csv", "-costs.tex", "-costs.html"),
            )
        ),
        *(
            f"figures/{pair}-{figure}.{kind}"
            for figure in ("accuracy-macs", "accuracy-costs", "pruning-ratios", "tuning-curves")
            for pair in pairs
            for kind in ("png", "svg")
        ),
    ]
    for folder in ("tables", "figures"):
        written = [path for path in paths if path.parent.name == folder]
        assert sorted((tmp_path / "out" / folder).iterdir()) == sorted(written)


def test_unfair_records_leave_only_the_results(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unfair"):
        build(write(tmp_path, record(), record(seed=1, recipe="f" * 12)), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.csv", "digits"}


def test_import_is_light() -> None:
    code = "import sys, daar.report; sys.exit(bool({'torch', 'matplotlib.pyplot'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_control_from_scratch_has_blanks_where_it_never_was_pruned(tmp_path: Path) -> None:
    nulls = {f"top1__test__{name}": None for name in ("pruned", "recalibrated")}
    paths = write(tmp_path, record(), record(variant="again", method="scratch_of", control=True, of="l1", **nulls))
    frame = results_frame(load_records(paths))
    row = frame[frame["variant"] == "again"].iloc[0]
    assert row["of"] == "l1"
    assert np.isnan(row["top1_pruned"])
    assert np.isnan(row["top1_recalibrated"])
    text = markdown.page(
        accuracies.sheet(frame, Context(named({"again": "slim network of L1 from scratch (same epochs)"})))
    )
    line = next(line for line in text.splitlines() if "from scratch" in line)
    assert [cell.strip() for cell in line.split("|")][4:6] == ["–", "–"]
    assert "nan" not in text


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("macs_slim", text) for text in ("inf", "-1", "1e400", "0.5", "0", "nan", "9" * 30)),
        *(("top1_tuned", text) for text in ("-0.1", "100.1", "inf", "nan", "1e400")),
        *(("target", text) for text in ("-1", "0", "1", "inf")),
        *(("seed", text) for text in ("-1", "nan")),
        *(("dataset", text) for text in ("../digits", "a/b", "..")),
        *(("variant", text) for text in ("..", "../../x", "a/b")),
        *(("policy", text) for text in ("../x", ".hidden")),
        *(("versions", text) for text in ("[]", "{", "[" * 50_000)),
        ("delta_top1", "101"),
        ("hardware_cores", "0"),
        ("scope", "some"),
        ("base_sha256", "1" * 63),
        ("control", "maybe"),
    ],
)
def test_a_cell_out_of_range_is_refused(tmp_path: Path, column: str, value: str) -> None:
    path = write_results(write(tmp_path, RECORD), tmp_path / "results.csv")
    cells = pd.read_csv(path, dtype=str, keep_default_na=False)
    cells[column] = value
    cells.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"results\.csv should be a results\.csv, but") as error:
        read_results(path)
    assert "\n" not in str(error.value)


def test_a_setting_comes_once(tmp_path: Path) -> None:
    path = write_results(write(tmp_path, RECORD), tmp_path / "results.csv")
    head, row = path.read_text().splitlines()
    path.write_text(f"{head}\n{row}\n{row}\n")
    with pytest.raises(InputError, match="row 3 has a setting that is there before"):
        read_results(path)


@pytest.mark.parametrize(
    "changes",
    [{"variant": "daar"}, {"seed": 7}, {"dataset": "cifar10"}, {"network": "resnet56"}, {"policy": "adaptive"},
     {"scope": "inner"}, {"target": 0.25}, {"target": None}, {"suite": "other"}],
)  # fmt: skip
def test_a_record_must_be_of_the_folder_that_it_lies_in(tmp_path: Path, changes: dict[str, Any]) -> None:
    (path,) = write(tmp_path, RECORD)
    path.write_text(json.dumps(record(**changes)))
    with pytest.raises(InputError, match=r"record\.json should lie in results/"):
        load_records([path])


@pytest.mark.parametrize("key", ["suite", "dataset", "network", "variant", "policy", "method"])
@pytest.mark.parametrize("name", ["../x", "..", ".", "/etc", "a/b", "a\\b", "a\0b", "a\nb", "", "x\n", "a" * 300])
def test_a_name_cannot_leave_its_folder(tmp_path: Path, key: str, name: str) -> None:
    (path,) = write(tmp_path, RECORD)
    path.write_text(json.dumps(record(**{key: name})))
    with pytest.raises(InputError, match=rf"record\.json: {key}: "):
        load_records([path])


def test_a_file_from_before_there_were_schedules_is_in_one_shot(tmp_path: Path) -> None:
    path = write_results(write(tmp_path, RECORD), tmp_path / "results.csv")
    now = read_results(path)
    now.drop(columns=["schedule", "schedule_options"]).to_csv(path, index=False)
    pd.testing.assert_frame_equal(read_results(path), now)
    assert set(now["schedule"]) == {"one-shot"}
    now.drop(columns=["schedule", "schedule_options", "of"]).to_csv(path, index=False)
    with pytest.raises(InputError, match="are missing or unknown"):
        read_results(path)
