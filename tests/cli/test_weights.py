"""Every command that loads a network looks at its weights, in one line, and writes nothing if they are refused."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from daar.checkpoint import checkpoint
from daar.checkpoint.checkpoint import Description
from daar.cli.main import main
from tests.cli.test_main import one_line, run

State = dict[str, torch.Tensor]
NAME = "layer1.0.conv1.weight"
TARGET = ["--macs-reduction", "0.3"]


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network."""
    third = (0.3, 0.3, 0.3)
    about = Description("resnet20", "digits", 10, (3, 32, 32), third, third, ("train",), None, {"seed": 0})
    torch.manual_seed(0)
    checkpoint.save(folder := tmp_path_factory.mktemp("dense"), checkpoint.build_dense(about), about)
    return folder


def damaged(base: Path, out: Path, damage: Callable[[State], Any], **changes: Any) -> Path:
    """A copy whose weights are changed, with the right hash, and whose model.json says `changes`."""
    shutil.copytree(base, out)
    state = safetensors.torch.load_file(out / "model.safetensors")
    damage(state)
    safetensors.torch.save_file(state, out / "model.safetensors")
    digest = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    about = json.loads((out / "model.json").read_text())
    (out / "model.json").write_text(json.dumps({**about, "weights_sha256": digest, **changes}))
    return out


def put(value: float, count: int = 1, name: str = NAME) -> Callable[[State], Any]:
    def damage(state: State) -> None:
        state[name].view(-1)[:count] = value

    return damage


def cast(kind: torch.dtype) -> Callable[[State], Any]:
    def damage(state: State) -> None:
        state[NAME] = state[NAME].to(kind)

    return damage


def overflow(state: State) -> None:
    """Finite weights; the activations exceed what float32 has."""
    for name, value in state.items():
        if name.endswith("bn2.weight"):
            value.mul_(1e30)


@pytest.fixture
def plan(dense: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    arguments = ["--method", "l1", *TARGET, *data(digits), "--images", 64, "--out", tmp_path / "plan"]
    run(capsys, "prune", dense, *arguments)
    return tmp_path / "plan" / "plan.json"


def data(digits: Path) -> list[Any]:
    return ["--dataset", "digits", "--packs", digits.parent]


def commands(bad: Path, digits: Path, plan: Path, out: Path) -> dict[str, list[Any]]:
    few = ["--images", 64]
    scored = plan.with_name("importance.safetensors")
    method = ["--method", "l1"]
    return {
        "measure": [bad, *data(digits), "--out", out],
        "score": [bad, *method, *data(digits), *few, "--out", out],
        "plan": [bad, *method, *TARGET, "--importance", scored, *data(digits), *few, "--out", out],
        "prune": [bad, *method, *TARGET, *data(digits), *few, "--out", out],
        "random-at": [bad, "--plan", plan, "--out", out],
        "finetune": [bad, "--plan", plan, "--epochs", 1, *data(digits), *few, "--out", out],
        "scratch": [bad, "--plan", plan, "--tuning-epochs", 1, "--epochs", 1, *data(digits), *few, "--out", out],
        "export": [bad, "--format", "pt2", "--out", out],
        "latency": [bad, "--batch-sizes", 1, "--rounds", 2, "--out", out],
        "import": [bad / "model.safetensors", "--network", "resnet20", "--dataset", "digits", "--out", out],
    }


def test_every_command_refuses_nan(
    dense: Path, digits: Path, plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, out = damaged(dense, tmp_path / "bad", put(float("nan"), 3)), tmp_path / "out"
    for command, arguments in commands(bad, digits, plan, out).items():
        said = one_line(run(capsys, command, *arguments, code=2))
        assert f"model.safetensors: {NAME} has 3 NaN values of 2,304." in said, command
        assert not out.exists(), command


def test_networks_that_overflow_are_told_as_that_before_anything_is_blamed(
    dense: Path, digits: Path, plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, out = damaged(dense, tmp_path / "bad", overflow), tmp_path / "out"
    every = commands(bad, digits, plan, out)
    for command in ("measure", "score", "prune", "finetune", "scratch", "export"):
        said = one_line(run(capsys, command, *every[command], code=2))
        assert "the network's output should be finite, but is NaN or infinite for " in said, command
        assert not out.exists(), command


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (put(float("inf")), f"{NAME} has 1 infinite value of 2,304."),
        (put(-1.0, name="bn1.running_var"), "bn1.running_var has 1 negative value of 16."),
        (put(float("nan"), name="linear.bias"), "linear.bias has 1 NaN value of 10."),
        (lambda state: state["bn1.num_batches_tracked"].fill_(-1), "bn1.num_batches_tracked has 1 negative value of 1"),
        (cast(torch.int64), f"{NAME} is of torch.int64, expected torch.float32. Give weights of this type"),
        (cast(torch.int8), "is of torch.int8"),
        (cast(torch.bool), "is of torch.bool"),
        (cast(torch.float8_e4m3fn), "is of torch.float8_e4m3fn"),
        (cast(torch.complex64), "is of torch.complex64"),
        # only an import casts
        (cast(torch.float16), "is of torch.float16"),
        (cast(torch.bfloat16), "is of torch.bfloat16"),
        (cast(torch.float64), "is of torch.float64"),
        (lambda state: state.pop(NAME), f"missing '{NAME}'"),
    ],
)
def test_what_is_wrong_is_named(dense: Path, tmp_path: Path, damage: Callable[[State], Any], said: str) -> None:
    bad = damaged(dense, tmp_path / "bad", damage)
    with pytest.raises(Exception, match=r"model\.safetensors") as caught:
        checkpoint.load(bad)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mean": []}, "mean"),
        ({"mean": [0.5]}, "got 1 and 3"),
        ({"std": [0.5, 0.5]}, "got 3 and 2"),
        ({"mean": [0.5, 0.5, 120]}, "mean has 120, expected 0 to 1"),
        ({"std": [0.5, 0.5, 1e-9]}, "std has 1e-09, expected 0.001 to 1"),
        ({"std": [0.5, 0.5, 1e30]}, "std has 1e+30"),
        ({"input_shape": [1, 32, 32]}, "input_shape should be [3, 32, 32], as resnet20"),
        ({"input_shape": [3, 100000, 100000]}, "input_shape"),
        ({"num_classes": 2**40}, "num_classes"),
    ],
)
def test_descriptions_that_no_network_has_are_refused(
    dense: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    bad = damaged(dense, tmp_path / "bad", lambda _: None, **changes)
    assert said in one_line(run(capsys, "measure", bad, *data(digits), code=2))


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_pipes_are_not_waited_for(dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    bad = damaged(dense, tmp_path / "bad", lambda _: None)
    (bad / name).unlink()
    os.mkfifo(bad / name)
    assert "but is a pipe" in one_line(run(capsys, "export", bad, "--format", "pt2", code=2))


def test_a_prune_that_is_refused_leaves_what_was_there(
    dense: Path, digits: Path, plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in plan.parent.iterdir()}
    assert sorted(before) == ["importance.safetensors", "model.json", "model.safetensors", "plan.json"]
    bad = damaged(dense, tmp_path / "bad", overflow)
    with pytest.raises(SystemExit):
        main(["prune", str(bad), "--method", "random", *TARGET, *map(str, data(digits)), "--out", str(plan.parent)])
    assert {path.name: path.read_bytes() for path in plan.parent.iterdir()} == before
