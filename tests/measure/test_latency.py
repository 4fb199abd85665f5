"""Latency: the order of windows by a clock of our own, its statistics by hand, and what the command writes."""

import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import onnxruntime
import pandas as pd
import pytest
import torch
import yaml
from torch import Tensor, nn

from daar.checkpoint import checkpoint
from daar.errors import InputError
from daar.measure import latency as measuring
from daar.measure.latency import compare, in_onnxruntime, in_torch, summarise
from daar.report.collect import read_results, write_results
from daar.run import code
from daar.stages import latency as stage
from daar.storage import schemas
from daar.suite import reading
from tests.checkpoint.test_checkpoint import description
from tests.cli.test_main import one_line, run
from tests.measure.test_export import slim_network
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module
from tests.report.test_collect import of_setting, record, write
from tests.stages.test_stability import SMALL


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Checkpoints of a slim and a dense ResNet-20."""
    folder = tmp_path_factory.mktemp("nets")
    model, plan = slim_network("resnet20")
    checkpoint.save(folder / "slim", model, description("resnet20", plan))
    checkpoint.save(folder / "dense", checkpoint.build_dense(description()), description())
    return folder / "slim", folder / "dense"


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "WINDOW_SECONDS", 0.002)


class Clock:
    """Time that passes only in forward passes."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls: list[str] = []

    def network(self, name: str, *taken: float) -> Callable[[Tensor], None]:
        waits: Iterator[float] = iter(taken)

        def forward(images: Tensor) -> None:
            self.calls.append(name)
            self.threads = torch.get_num_threads()
            self.seconds += next(waits, taken[-1])

        return forward

    def __call__(self) -> float:
        return self.seconds


def test_windows_take_turns_and_the_first_round_is_not_counted() -> None:
    # binary fractions, so that sums are exact; a window is 0.2 s, so 2 of dense after an untimed one, 4 of slim
    clock = Clock()
    networks = {"slim": clock.network("slim", 1.0, 0.0625), "dense": clock.network("dense", 8.0, 0.125)}
    taken = compare(networks, torch.zeros(1), threads=3, rounds=3, clock=clock)
    assert taken == {"slim": [62.5] * 3, "dense": [125.0] * 3}
    windows = [
        ("dense", 3),
        ("slim", 5),
        ("slim", 5),
        ("dense", 3),
        ("dense", 3),
        ("slim", 5),
        ("slim", 5),
        ("dense", 3),
    ]
    assert clock.calls == [name for name, count in windows for _ in range(count)]
    assert clock.threads == 3


def test_a_window_is_the_median_of_its_batches() -> None:
    clock = Clock()
    warm, window = [9.0, 0.25], [9.0, 0.03125, 0.03125, 0.125, 0.0625]
    taken = compare({"slim": clock.network("slim", *warm, *window)}, torch.zeros(1), threads=1, rounds=1, clock=clock)
    assert taken == {"slim": [1e3 * (0.03125 + 0.0625) / 2]}


def test_threads_are_as_they_were_even_after_a_fault() -> None:
    before = torch.get_num_threads()

    def broken(images: Tensor) -> None:
        assert torch.get_num_threads() == before + 2
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  # our own
        compare({"slim": broken}, torch.zeros(1), threads=before + 2, rounds=1)
    assert torch.get_num_threads() == before


def test_statistics_by_hand() -> None:
    measured = summarise({"slim": [1, 4, 2, 8, 5], "dense": [2, 4, 6, 8, 10]}, batch_size=8)
    spread = {"median_ms": 4, "q1_ms": 2, "q3_ms": 5, "images_per_second": 2000, "windows_ms": [1, 4, 2, 8, 5]}
    assert measured["slim"] == spread
    assert (measured["dense"]["median_ms"], measured["dense"]["q1_ms"], measured["dense"]["q3_ms"]) == (6, 4, 8)
    # pairs 2, 1, 3, 1, 2; the medians' ratio would be 1.5
    assert measured["ratio"] == {"median": 2, "q1": 1, "q3": 2}
    alone = summarise({"slim": [1, 2]}, batch_size=1)
    assert (alone["dense"], alone["ratio"]) == (None, None)


def test_torch_runs_what_the_record_says() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9)).train()
    images = torch.randn(2, 3, 8, 8, dtype=torch.bfloat16)
    with in_torch(model, torch.device("cpu"), "bf16") as forward:
        assert forward(images).dtype == torch.bfloat16
        assert forward(images).is_inference()
        assert torch.equal(forward(images), forward(images))  # no dropout
        assert next(model.parameters()).is_contiguous(memory_format=torch.channels_last)
        assert not torch.backends.cudnn.allow_tf32
    assert model.training


def test_onnxruntime_has_the_threads_that_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    model, shape = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2)).eval(), (3, 8, 8)
    asked = []
    real = onnxruntime.InferenceSession

    def spy(path: str, options: Any, **more: Any) -> Any:
        asked.append(options.intra_op_num_threads)
        return real(path, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    images = torch.randn(5, *shape)
    with in_onnxruntime(model, shape, 3) as forward, torch.no_grad():
        torch.testing.assert_close(forward(images), model(images), rtol=1e-4, atol=1e-5)
    assert asked[-1] == 3


# the stage and its command


class Slow(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.05)
        return x


def test_dense_and_slim_are_not_swapped(
    folders: tuple[Path, Path], brief: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    slim, dense = folders
    load = checkpoint.load

    def slowed(folder: Path) -> Any:
        model, about = load(folder)
        return (nn.Sequential(Slow(), model) if folder == dense else model), about

    monkeypatch.setattr(checkpoint, "load", slowed)
    measured = stage.latency(
        folder=slim,
        against=dense,
        batch_sizes=[1],
        rounds=3,
        dtype="float32",
        device=torch.device("cpu"),
        onnxruntime=False,
    )
    times = measured["batches"][0]["torch"]
    assert min(times["dense"]["windows_ms"]) >= 50  # a sleep takes no less
    assert times["dense"]["median_ms"] > times["slim"]["median_ms"]
    assert times["ratio"]["median"] > 1
    for name, folder in (("slim", slim), ("dense", dense)):
        assert measured[name]["sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert measured["dense"]["macs"] == 40_551_040 > measured["slim"]["macs"]


def test_json_follows_its_schema(
    capsys: pytest.CaptureFixture[str], folders: tuple[Path, Path], brief: None, tmp_path: Path
) -> None:
    jsonschema.Draft202012Validator.check_schema(schemas.schema("latency"))
    before = torch.get_num_threads()
    told = ("--batch-sizes", 3, 1, "--rounds", 4, "--threads", 1, "--device", "cpu", "--json")
    out = run(capsys, "latency", folders[0], "--against", folders[1], *told, "--out", tmp_path / "latency.json")
    torch.set_num_threads(before)
    measured = json.loads(out)
    assert json.loads((tmp_path / "latency.json").read_text()) == measured
    schemas.validate(measured, "latency", "here", "")
    assert [batch["batch_size"] for batch in measured["batches"]] == [3, 1]
    assert (measured["rounds"], measured["threads"], measured["onnxruntime"]["reason"]) == (4, 1, None)
    for batch in measured["batches"]:
        for runtime in ("torch", "onnxruntime"):
            sides = batch[runtime]
            pairs = zip(sides["dense"]["windows_ms"], sides["slim"]["windows_ms"], strict=True)
            ratios = sorted(dense / slim for dense, slim in pairs)
            assert len(ratios) == 4
            assert sides["ratio"]["median"] == pytest.approx((ratios[1] + ratios[2]) / 2)


def test_text(capsys: pytest.CaptureFixture[str], folders: tuple[Path, Path], brief: None) -> None:
    told = ("--batch-sizes", 2, "--rounds", 2, "--threads", 1, "--device", "cpu")
    both = run(capsys, "latency", folders[0], "--against", folders[1], *told)
    assert "resnet20 dense 40,551,040 MACs, resnet20 slim" in both
    assert [line.split()[:2] for line in both.splitlines() if "×" in line] == [["2", "torch"], ["2", "onnxruntime"]]
    alone = run(capsys, "latency", folders[0], *told, "--dtype", "bf16")
    assert "×" not in alone
    assert "onnxruntime: it is timed on the CPU in float32; this was cpu in bf16" in alone


def test_without_onnxruntime_the_reason_stands_there(
    capsys: pytest.CaptureFixture[str], folders: tuple[Path, Path], brief: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ("--batch-sizes", 1, "--rounds", 2, "--threads", 1, "--device", "cpu", "--json")
    unasked = json.loads(run(capsys, "latency", folders[0], *told, "--no-onnxruntime"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    missing = json.loads(run(capsys, "latency", folders[0], *told))
    reasons = ["not asked for", "onnxruntime is not installed. Run: pip install -e '.[export]'"]
    for measured, reason in zip((unasked, missing), reasons, strict=True):
        schemas.validate(measured, "latency", "here", "")
        assert measured["onnxruntime"] == {"version": None, "reason": reason}
        assert measured["batches"][0]["onnxruntime"] is None
        assert (measured["dense"], measured["batches"][0]["torch"]["ratio"]) == (None, None)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (["--batch-sizes", "0"], "each 1 or more"),
        (["--batch-sizes", "2", "2"], "named once"),
        (["--rounds", "1"], "at least 2"),
        (["--threads", "0"], "--threads is 0"),
        (["--against", "no-such-folder"], "no such file"),
    ],
)
def test_bad_input(
    capsys: pytest.CaptureFixture[str], folders: tuple[Path, Path], told: list[str], said: str, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    out = tmp_path / "latency.json"
    assert said in one_line(run(capsys, "latency", folders[0], *told, "--out", out, code=2))
    assert not out.exists()
    torch.set_num_threads(before)


def test_networks_of_different_images_are_not_compared(
    capsys: pytest.CaptureFixture[str], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    large: Any = {"network": "mobilenet_v2", "dataset": "imagenet", "num_classes": 1000}
    about = dataclasses.replace(description(), **large, input_shape=(3, 224, 224))
    checkpoint.save(tmp_path, checkpoint.build_dense(about), about)
    err = one_line(run(capsys, "latency", folders[0], "--threads", 1, "--against", tmp_path, code=2))
    assert f"{folders[0]} takes images of (3, 32, 32), {tmp_path} takes images of (3, 224, 224)" in err


# in a suite


def test_what_reruns_and_what_does_not() -> None:
    def modules(stage: str) -> set[str]:
        entries, _ = code.defined_by(stage, network="resnet20")
        return {name.partition(":")[0] for name in code.HERE.definitions(entries)}

    own = modules("latency")
    assert {"daar.measure.latency", "daar.measure.export", "daar.measure.macs"} <= own
    assert not [name for name in own if name.startswith(("daar.report", "daar.training", "daar.cli"))]
    for other in ("train", "score", "plan", "finetune", "scratch", "measure", "record"):
        assert not {"daar.measure.latency", "daar.stages.latency"} & modules(other), other


def latency_json() -> dict[str, Any]:
    """Of two batch sizes, with figures that tell where they come from."""
    spread = {"images_per_second": 1.0, "windows_ms": [1.0, 1.0]}

    def one(value: float) -> dict[str, Any]:
        return {"median_ms": value, "q1_ms": value, "q3_ms": value, **spread}

    net = {"network": "resnet20", "dataset": "digits", "sha256": "1" * 64, "macs": 1, "params": 1}
    sides = {
        128: {"slim": one(30.0), "dense": one(45.0), "ratio": {"median": 1.5, "q1": 1.4, "q3": 1.6}},
        1: {"slim": one(1.0), "dense": one(1.25), "ratio": {"median": 1.26, "q1": 1.2, "q3": 1.3}},
    }
    return {
        **{"format": 1, "slim": net, "dense": net, "device": "cpu", "dtype": "float32"},
        **{"memory_format": "channels_last", "rounds": 2, "window_seconds": 0.2},
        "batches": [{"batch_size": size, "torch": times, "onnxruntime": None} for size, times in sides.items()],
        "onnxruntime": {"version": None, "reason": "not asked for"},
        **{"threads": 2, "hardware": {"cpu": "x", "cores": 2, "gpu": None}, "versions": {}, "commit": None},
    }


def test_columns_of_the_results(tmp_path: Path) -> None:
    paths = write(tmp_path, record(seed=0), record(seed=1))
    paths[1].with_name("latency.json").write_text(json.dumps(latency_json()))
    expected = {
        **{"latency_ms_dense_b1": 1.25, "latency_ms_slim_b1": 1.0, "latency_ratio_b1": 1.26},
        **{"latency_ms_dense_b128": 45.0, "latency_ms_slim_b128": 30.0, "latency_ratio_b128": 1.5},
    }
    without, with_latency = read_results(write_results(paths, tmp_path / "results.csv", latency=True)).to_dict(
        "records"
    )
    assert {key: with_latency[key] for key in expected} == expected
    assert all(pd.isna(without[key]) for key in expected)


@pytest.mark.parametrize("asked", [True, False])
def test_a_suite_that_asks_for_none_has_none_whatever_an_earlier_run_left(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, asked: bool
) -> None:
    content = {**SMALL, "methods": ["l1"], **({"latency": True} if asked else {})}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(content))
    (setting,) = reading.load(tmp_path / "small.yaml").settings
    folder = tmp_path / "small" / setting.path
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(record(**of_setting(setting, "small"))))
    (folder / "latency.json").write_text(json.dumps(latency_json()))
    run(capsys, "report", tmp_path / "small.yaml", "--results", tmp_path, "--only", "collect")
    (value,) = read_results(tmp_path / "small" / "results.csv")["latency_ratio_b128"]
    assert value == 1.5 if asked else pd.isna(value)


def test_a_damaged_latency_is_named(tmp_path: Path) -> None:
    (path,) = write(tmp_path, record())
    latency_file = path.with_name("latency.json")
    latency_file.write_text(json.dumps({**latency_json(), "rounds": 0}))
    with pytest.raises(InputError, match=r"latency\.json: rounds: 0"):
        write_results([path], tmp_path / "results.csv", latency=True)
