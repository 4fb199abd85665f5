"""kill -9 at any moment, signals and distillation: what a training does in addition to its textbook loop."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daar import models
from daar.data import packed
from daar.training import engine
from daar.training.batches import Data
from daar.training.interrupts import Interrupted
from daar.training.progress import Epoch
from daar.training.recipe import Recipe
from daar.training.steps import Steps
from tests.training.killed_training import WAYS

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]


def killed(digits: Path, folder: Path, seed: int, kills: int) -> dict[str, Any]:
    command = [
        sys.executable,
        str(ROOT / "tests/training/killed_training.py"),
        str(digits),
        str(folder),
        str(seed),
        str(kills),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def check(outcome: dict[str, Any]) -> None:
    assert outcome["wild"] == outcome["calm"]
    # a killed save may leave its temporary file, never a half resume file under the final name
    assert all(name in ("digest", "resume.safetensors") or name.startswith(".") for name in outcome["left"]), outcome[
        "left"
    ]


def test_ten_kills_change_no_bit(digits: Path, tmp_path: Path) -> None:
    check(killed(digits, tmp_path, seed=0, kills=10))


@pytest.mark.slow
def test_a_hundred_kills_change_no_bit(digits: Path, tmp_path: Path) -> None:
    outcome = killed(digits, tmp_path, seed=1, kills=100)
    check(outcome)
    assert set(outcome["killed"]) == set(WAYS)


@pytest.fixture(scope="module")
def data(digits: Path) -> Data:
    """Some of the digits: five steps of up to 64 images an epoch."""
    train, val = (packed.load(digits / f"{split}.safetensors") for split in ("train", "val"))
    return Data(_first(train, 300), _first(val, 50), train.mean, train.std, flip=False)


def fresh(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return models.get("resnet20").build(10)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([value.double().flatten() for value in model.state_dict().values()])


class Drops(nn.Module):
    """Draws at random while it trains."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.drop, self.net = nn.Dropout(0.1), net

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(self.drop(x))
        return logits


SHORT = Recipe(epochs=2, lr=0.05, batch_size=64, precision="float32")
ALL = replace(
    SHORT,
    lr=0.002,
    optimizer="adamw",
    betas=(0.9, 0.99),
    ema=0.9,
    mixup=0.2,
    cutmix=1.0,
    sparsity=1e-3,
    precision="bf16",
)


@pytest.mark.parametrize(
    ("sent", "recipe"),
    [(signal.SIGTERM, SHORT), (signal.SIGINT, SHORT), (signal.SIGTERM, ALL)],
    ids=["term", "int", "all"],
)
def test_a_signal_ends_the_step_saves_and_goes_on_bit_for_bit(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals, recipe: Recipe
) -> None:
    file = tmp_path / "resume.safetensors"
    undisturbed, interrupted = Drops(fresh()), Drops(fresh())
    expected = engine.fit(undisturbed, data, recipe, 0, CPU, say=lambda _: None)
    steps = Steps.__call__
    calls: list[int] = []

    def counted(self: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        calls.append(1)
        if len(calls) == 7:  # five steps an epoch: in the second of the second
            os.kill(os.getpid(), sent)
        return steps(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Steps, "__call__", counted)
        with pytest.raises(
            Interrupted, match=rf"{sent.name}: saved after epoch 2, step 2 of 5; the same command goes on"
        ):
            engine.fit(interrupted, data, recipe, 0, CPU, resume_file=file, say=lambda _: None)
    assert len(calls) == 7
    resumed = Drops(fresh(1))
    said: list[str] = []
    torch.rand(5)  # what other code draws does not matter
    progress = engine.fit(resumed, data, recipe, 0, CPU, resume_file=file, say=said.append)
    assert said[1] == f"continues after epoch 1 and 2 steps from {file}"
    assert torch.equal(weights(resumed), weights(undisturbed))
    for one, other in zip(progress.curve, expected.curve, strict=True):
        assert (one.loss, one.train_top1, one.val_top1) == (other.loss, other.train_top1, other.val_top1)


def test_it_saves_after_an_epoch_unless_that_takes_too_long(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that only epochs, of 10 s, and saves move on: 2 % of the time since the last save, and at the end."""
    clock, saved = [0.0], list[int]()

    def slow(self: Any, trained: Any, progress: Any) -> None:
        saved.append(len(progress.curve))
        clock[0] += 0.5

    def epoch(*_: Any) -> Epoch:
        clock[0] += 10.0
        return Epoch(1, 0.1, 1.0, 50.0, 50.0, 10.0)

    monkeypatch.setattr(engine, "SAVE_SHARE", 0.02)
    monkeypatch.setattr("daar.training.engine.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("daar.training.resume.Run.save", slow)
    monkeypatch.setattr(engine.Loop, "run_epoch", epoch)
    recipe = Recipe(epochs=9, precision="float32")
    engine.fit(fresh(), data, recipe, 0, CPU, resume_file=tmp_path / "r.safetensors", say=lambda _: None)
    assert saved == [1, 4, 7, 9]  # the first says that a save takes half a second: 25 s are to lie between two


def test_a_signal_between_epochs_ends_the_run_too(data: Data, tmp_path: Path) -> None:
    recipe = Recipe(epochs=2, lr=0.05, batch_size=64, precision="float32")

    def send(line: str) -> None:
        if line.startswith("epoch 1/2"):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="saved after epoch 1 of 2"):
        engine.fit(fresh(), data, recipe, 0, CPU, resume_file=tmp_path / "r.safetensors", say=send)


def test_distillation_follows_the_dense_network(data: Data) -> None:
    """With all weight on the teacher, one step equals a hand-written step of Hinton et al.'s soft loss."""
    teacher, ours, plain = fresh(3), fresh(4), fresh(4)
    few = Data(_first(data.train, 64), _first(data.val, 10), data.mean, data.std, flip=False)
    recipe = Recipe(
        epochs=1, lr=0.1, schedule="constant", batch_size=64, momentum=0.0, nesterov=False, weight_decay=0.0,
        precision="float32", distillation=1.0, temperature=3.0,
    )  # fmt: skip
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    engine.fit(ours, few, recipe, 0, CPU, teacher=teacher, say=lambda _: None)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    batches = few.batches(recipe, 0, CPU)
    images, _ = batches.make(*next(batches.epoch(0, 0)))
    with torch.no_grad():
        target = (teacher.eval()(images) / 3).softmax(1)
    log = (plain.train()(images) / 3).log_softmax(1)
    (9 * F.kl_div(log, target, reduction="batchmean")).backward()
    with torch.no_grad():
        for parameter in plain.parameters():
            assert parameter.grad is not None
            parameter.sub_(0.1 * parameter.grad)
    assert torch.allclose(weights(ours), weights(plain), atol=1e-5)


def _first(pack: Any, count: int) -> Any:
    return type(pack)(**{**pack.__dict__, "images": pack.images[:count], "labels": pack.labels[:count]})
