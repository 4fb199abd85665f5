"""Training and evaluation in two processes, over gloo, compared with one process that does the same."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from daar.device import distributed
from daar.errors import InputError
from daar.training.recipe import Recipe
from tests.loaded import loaded

CPU = torch.device("cpu")
Together = Callable[..., list[subprocess.Popen[str]]]
STATEMENTS = """
import json, os, signal, sys, torch
from pathlib import Path
from torch import nn
os.environ["RANK"] = sys.argv[2]
from daar.data.packed import Pack
from daar.device import distributed
from daar.training import engine, interrupts
from daar.training.batches import Data
from daar.training.recipe import Recipe
from tests.device.test_distributed import images, plain, with_norm
torch.set_num_threads(1)
distributed.join()
RANK, OUT = distributed.rank(), Path(sys.argv[1])
"""


def images(count: int) -> Any:
    """A pack of random images of 10 classes."""
    from daar.data.packed import Pack

    dice = torch.Generator().manual_seed(count)
    pixels = torch.randint(256, (count, 8, 8, 3), dtype=torch.uint8, generator=dice)
    labels = torch.randint(10, (count,), generator=dice)
    names = tuple(map(str, range(10)))
    return Pack(pixels, labels, names, (0.5,) * 3, (0.25,) * 3, "random", "train", "", "")


def plain() -> nn.Sequential:
    """A network in which no image's output depends on another image."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def with_norm() -> nn.Sequential:
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*parts, nn.Linear(8, 10))


@pytest.fixture(scope="module")
def together() -> Iterator[Together]:
    """Starts processes as torchrun does, which sets these variables."""

    def start(statements: str, out: Path, count: int = 2) -> list[subprocess.Popen[str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
        shared |= {"LOCAL_WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
        return [
            subprocess.Popen(
                [*python.command, STATEMENTS + statements, str(out), str(rank)],
                env=python.environment({**shared, "LOCAL_RANK": str(rank)}),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(count)
        ]

    with loaded("import tests.device.test_distributed, daar.training.engine, daar.measure.accuracy") as python:
        yield start


def finish(started: Sequence[subprocess.Popen[str]]) -> list[str]:
    """What each said; all must end well."""
    said = [process.communicate(timeout=300) for process in started]
    for process, (_, errors) in zip(started, said, strict=True):
        assert process.returncode == 0, errors
    return [output for output, _ in said]


def largest_difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


TRAINING = """
recipe = Recipe(epochs=2, lr=0.1, batch_size=8, padding=1, precision="float32")
for name, network, train in [("plain", plain, 35), ("norm", with_norm, 32)]:
    model = network()
    if RANK == 1:
        with torch.no_grad():
            model[0].weight.zero_()  # it is given the first one's
    data = Data(images(train), images(7), (0.5,) * 3, (0.25,) * 3, flip=True)
    progress = engine.fit(model, data, recipe, 3, torch.device("cpu"), say=lambda _: None)
    torch.save(model.state_dict(), OUT / f"{name}{RANK}.pt")
    (OUT / f"{name}{RANK}.json").write_text(json.dumps([[e.loss, e.train_top1, e.val_top1] for e in progress.curve]))
distributed.leave()
"""


def test_two_processes_train_as_one(tmp_path: Path, together: Together) -> None:
    """35 images in batches of 8 leave 3, which one of the processes has alone."""
    from daar.training.batches import Data
    from daar.training.engine import fit

    finish(together(TRAINING, tmp_path))
    recipe = Recipe(epochs=2, lr=0.1, batch_size=8, padding=1, precision="float32")
    alone = plain()
    data = Data(images(35), images(7), (0.5,) * 3, (0.25,) * 3, flip=True)
    curve = fit(alone, data, recipe, 3, CPU, say=lambda _: None).curve
    states = [torch.load(tmp_path / f"plain{rank}.pt") for rank in range(2)]
    assert largest_difference(*states) == 0
    assert largest_difference(states[0], alone.state_dict()) < 1e-6
    for rank in range(2):
        rows = json.loads((tmp_path / f"plain{rank}.json").read_text())
        for row, epoch in zip(rows, curve, strict=True):
            assert row == [pytest.approx(epoch.loss, rel=1e-5), epoch.train_top1, epoch.val_top1]

    # with batch norm each half of a batch is normalised by itself, and running statistics are the mean of both
    states = [torch.load(tmp_path / f"norm{rank}.pt") for rank in range(2)]
    assert largest_difference(*states) == 0
    assert largest_difference(states[0], _halves(recipe)) < 1e-6


def _halves(recipe: Recipe) -> dict[str, Tensor]:
    """The same by hand: two copies of the network, each fed with half of every batch."""
    from daar.data.augmentation import Draw, ImageStore, draw

    pack = images(32)
    store = ImageStore(pack.images, 1, (0.5,) * 3, (0.25,) * 3, CPU)
    copies = [with_norm().train() for _ in range(2)]
    optimizers = [
        torch.optim.SGD(copy.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4) for copy in copies
    ]
    for epoch in range(2):
        plan = draw(32, 1, True, 3, epoch, CPU)
        for step in range(4):
            for half, (copy, optimizer) in enumerate(zip(copies, optimizers, strict=True)):
                first = 8 * step + 4 * half
                labels = pack.labels[plan.order[first : first + 4]]
                optimizer.zero_grad()
                F.cross_entropy(copy(store.batch(Draw(plan.rows[first : first + 4]))), labels).backward()
                optimizer.param_groups[0]["lr"] = recipe.lr_at(epoch + step / 4)
            for a, b in zip(copies[0].parameters(), copies[1].parameters(), strict=True):
                assert a.grad is not None
                assert b.grad is not None
                mean = (a.grad + b.grad) / 2
                a.grad, b.grad = mean, mean.clone()
            for optimizer in optimizers:
                optimizer.step()
    state, other = copies[0].state_dict(), copies[1].state_dict()
    return {name: (value + other[name]) / 2 if "running" in name else value for name, value in state.items()}


FOLDER = """
from tests.device.test_distributed import folder
data = folder(OUT)
recipe = Recipe(epochs=2, lr=0.1, batch_size=4, precision="float32")
model = plain()
progress = engine.fit(model, data, recipe, 3, torch.device("cpu"), say=lambda _: None)
torch.save(model.state_dict(), OUT / f"{RANK}.pt")
print(json.dumps([[e.loss, e.train_top1, e.val_top1] for e in progress.curve]), flush=True)
distributed.leave()
"""


def folder(root: Path) -> Any:
    """Images in files: 10 of 2 classes to train on, 2 as val."""
    from daar.data import datasets, image_folder
    from daar.training.batches import Data

    index = root / "index"
    if not (index / "source.json").exists():
        dice = np.random.default_rng(0)
        for part, count in (("train", 6), ("val", 1)):
            for name in ("cat", "dog"):
                (root / part / name).mkdir(parents=True)
                for at in range(count):
                    pixels = dice.integers(0, 256, (20 + at, 24, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(root / part / name / f"{at}.png")
        image_folder.prepare(replace(datasets.get("imagenet"), shape=(3, 16, 16)), root, index)
    train, val = (image_folder.load(index / f"{split}.safetensors") for split in ("train", "val"))
    return Data(train, val, train.mean, train.std, flip=True)


def test_two_processes_train_on_a_folder_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: Together
) -> None:
    """10 images in batches of 4 leave 2, which one process has alone; each decodes its own share."""
    from daar.training.engine import fit

    monkeypatch.setenv("DAAR_WORKERS", "0")
    data, alone = folder(tmp_path), plain()
    recipe = Recipe(epochs=2, lr=0.1, batch_size=4, precision="float32")
    curve = fit(alone, data, recipe, 3, CPU, say=lambda _: None).curve
    for said in finish(together(FOLDER, tmp_path)):
        for row, epoch in zip(json.loads(said), curve, strict=True):
            assert row == [pytest.approx(epoch.loss, rel=1e-5), epoch.train_top1, epoch.val_top1]
    states = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert largest_difference(*states) == 0
    assert largest_difference(states[0], alone.state_dict()) < 1e-6


EVALUATION = """
from daar.measure.accuracy import evaluate
evaluated = {}
for count in (7, 1, 8):
    for size in (2, 3):
        pack = images(count)
        model = plain()
        seen = []
        model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
        accuracy = evaluate(model, pack, pack.mean, pack.std, torch.device("cpu"), size)
        evaluated[f"{count} {size}"] = [accuracy.top1, sum(seen)]
print(json.dumps(evaluated), flush=True)
distributed.leave()
"""


def test_every_image_is_evaluated_exactly_once(tmp_path: Path, together: Together) -> None:
    from daar.measure.accuracy import evaluate

    first, second = (json.loads(said) for said in finish(together(EVALUATION, tmp_path)))
    for key, (top1, seen) in first.items():
        count, size = map(int, key.split())
        pack = images(count)
        assert top1 == second[key][0] == evaluate(plain(), pack, pack.mean, pack.std, CPU, size).top1
        assert seen + second[key][1] == count


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_shares_are_disjoint_whole_and_never_a_single_image(monkeypatch: pytest.MonkeyPatch, processes: int) -> None:
    monkeypatch.setattr(distributed, "processes", lambda: processes)
    for count in range(2, 40):
        shares, parts = [], []
        for rank in range(processes):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            shares.append(range(*distributed.share(count)))
            parts.append(range(*distributed.part(count)))
        assert [image for mine in shares for image in mine] == list(range(count))
        assert [image for mine in parts for image in mine] == list(range(count))
        assert all(len(mine) != 1 for mine in shares)
        if count >= 2 * processes:
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "processes", lambda: 3)
    distributed.require_shares(6)
    for size in (128, 3):
        with pytest.raises(InputError, match=rf"batch_size is {size}.*3 processes.*multiple of 3 from 6 on"):
            distributed.require_shares(size)


STOPPED = """
class Slow(nn.Flatten):
    def forward(self, x):
        if self.training and RANK == 1 and not (OUT / "told").exists():
            (OUT / "told").touch()
            os.kill(os.getpid(), signal.SIGTERM)
        return super().forward(x)

def network():
    model = with_norm()
    model[4] = Slow()
    return model

recipe = Recipe(epochs=3, lr=0.1, batch_size=8, padding=1, precision="float32")
data = Data(images(32), images(7), (0.5,) * 3, (0.25,) * 3, flip=True)

def run(file):
    model, said = network(), []
    try:
        engine.fit(model, data, recipe, 3, torch.device("cpu"), resume_file=file, say=said.append)
    except interrupts.Interrupted as interrupt:
        said.append(str(interrupt))
    return model.state_dict(), said

_, first = run(OUT / "resume.safetensors")
state, second = run(OUT / "resume.safetensors")
undisturbed, _ = run(None)
difference = max(float((state[k].double() - undisturbed[k].double()).abs().max()) for k in state)
print(json.dumps([first[-1], second[1], difference]), flush=True)
distributed.leave()
"""


def test_one_process_s_signal_stops_all_after_the_same_step_and_they_go_on(tmp_path: Path, together: Together) -> None:
    """Without agreement one would wait for the other's gradients for ever."""
    for said in finish(together(STOPPED, tmp_path)):
        stopped, continued, difference = json.loads(said)
        assert stopped == "SIGTERM: saved after epoch 1, step 1 of 4; the same command goes on from there"
        assert continued == f"continues after epoch 0 and 1 steps from {tmp_path / 'resume.safetensors'}"
        assert difference < 1e-6


LOST = """
from daar.errors import InputError
class Mortal(nn.Flatten):
    def forward(self, x):
        if RANK == 1:
            os._exit(1)
        return super().forward(x)

model = with_norm()
model[4] = Mortal()
data = Data(images(32), images(7), (0.5,) * 3, (0.25,) * 3, flip=True)
try:
    engine.fit(model, data, Recipe(epochs=1, batch_size=8, padding=1), 0, torch.device("cpu"), say=lambda _: None)
except InputError as error:
    print(error, flush=True)
os._exit(0)
"""


def test_a_lost_process_is_one_line_for_the_others(tmp_path: Path, together: Together) -> None:
    first, second = together(LOST, tmp_path)
    said, errors = first.communicate(timeout=300)
    assert said.startswith("another process of this run has ended"), errors
    second.communicate(timeout=300)


TURNS = """
import time
with distributed.in_turn():
    (OUT / "log").open("a").write(f"in {RANK}\\n")
    time.sleep(0.2 * (3 - RANK))
    (OUT / "log").open("a").write(f"out {RANK}\\n")
distributed.leave()
"""


def test_processes_take_turns_by_rank(tmp_path: Path, together: Together) -> None:
    """So that two jobs lease their GPUs in the same order, and never wait for each other."""
    finish(together(TURNS, tmp_path, 3))
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines == [f"{word} {rank}" for rank in range(3) for word in ("in", "out")]


@pytest.mark.parametrize("command", [["list", "methods"], ["score", "nowhere", "--dataset", "digits", "--out", "x"]])
def test_other_commands_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: Any, command: list[str]) -> None:
    from daar.cli.main import main

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    assert "start any other command without it" in capsys.readouterr().err


@pytest.mark.slow
def test_torchrun_trains_and_measures(digits: Path, tmp_path: Path) -> None:
    """The command line under the real torchrun: one voice, one checkpoint, one count."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "daar"]
    options = ["--dataset", "digits", "--packs", str(digits.parent), "--device", "cpu", "--threads", "1"]
    recipe = ["--epochs", "1", "--lr", "0.05", "--batch-size", "64", "--precision", "float32"]
    out = tmp_path / "dense"
    train = [*launch, "train", "--network", "resnet20", "--out", str(out), *options, *recipe]
    done = subprocess.run(train, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/1") == 1
    assert sorted(file.name for file in out.iterdir()) == ["model.json", "model.safetensors"]
    measure = ["measure", str(out), "--json", *options]
    several = subprocess.run([*launch, *measure], capture_output=True, text=True, check=True).stdout
    alone = subprocess.run([sys.executable, "-m", "daar", *measure], capture_output=True, text=True, check=True).stdout
    assert json.loads(several) == json.loads(alone)


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [False, True])
def test_torchrun_told_to_end_leaves_a_resume_file(digits: Path, tmp_path: Path, to_all: bool) -> None:
    """As by a scheduler, which tells torchrun, or everybody, so that processes hear it twice."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "daar"]
    options = ["--dataset", "digits", "--packs", str(digits.parent), "--device", "cpu", "--threads", "1"]
    recipe = ["--epochs", "2", "--lr", "0.05", "--batch-size", "64", "--precision", "float32"]
    out = tmp_path / "dense"
    train = [*launch, "train", "--network", "resnet20", "--out", str(out), *options, *recipe]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    started = subprocess.Popen(train, **pipes)
    assert started.stdout is not None
    while not started.stdout.readline().startswith("epoch 1/2"):
        assert started.poll() is None
    if to_all:
        os.killpg(started.pid, signal.SIGINT)
    else:
        started.send_signal(signal.SIGTERM)
    said = started.communicate(timeout=300)[1]
    assert started.returncode != 0
    assert said.count("the same command goes on from there") == 1
    assert [file.name for file in out.iterdir()] == ["resume.safetensors"]
    again = subprocess.run(train, capture_output=True, text=True, check=True)
    assert "continues after epoch 1" in again.stdout
    assert sorted(file.name for file in out.iterdir()) == ["model.json", "model.safetensors"]
