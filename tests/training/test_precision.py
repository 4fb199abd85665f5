"""What `auto` means: measured where a CPU has bfloat16, decided once, and never changed within a training."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from daar import models
from daar.data import packed
from daar.data.packed import Pack
from daar.training import engine, precision
from daar.training.batches import Data
from daar.training.recipe import Recipe

CPU = torch.device("cpu")
AUTO = Recipe(epochs=2, lr=0.05, batch_size=64)
Measure = Callable[[float], list[int]]


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Measure]:
    """Lets the measurement give a number on a CPU with bfloat16; the list has an entry for each one made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: True)
    precision.bf16_speedup.cache_clear()

    def give(speedup: float) -> list[int]:
        made: list[int] = []

        def measured(_: object) -> float:
            made.append(1)
            return speedup

        monkeypatch.setattr(precision, "measure", measured)
        precision.bf16_speedup.cache_clear()
        return made

    yield give
    precision.bf16_speedup.cache_clear()


@pytest.mark.parametrize(("speedup", "taken"), [(2.0, "bf16"), (1.06, "bf16"), (1.04, "float32"), (0.7, "float32")])
def test_auto_is_bf16_only_where_a_step_is_clearly_faster(measures: Measure, speedup: float, taken: str) -> None:
    measures(speedup)
    choice = precision.choose(AUTO, CPU)
    assert choice.precision == taken
    assert f"{speedup:.2f} times" in str(choice)


@pytest.mark.parametrize(
    ("recipe", "saved", "taken"),
    [
        (replace(AUTO, precision="float32"), None, "float32"),
        (replace(AUTO, precision="bf16"), None, "bf16"),
        (AUTO, "float32", "float32"),  # that of the resume file
        (AUTO, "bf16", "bf16"),
        (replace(AUTO, epochs=0), None, "float32"),
    ],
)
def test_nothing_is_measured_that_is_known(measures: Measure, recipe: Recipe, saved: str | None, taken: str) -> None:
    made = measures(2.0 if taken == "float32" else 0.5)
    assert precision.choose(recipe, CPU, saved).precision == taken
    assert not made


def test_a_cpu_without_bfloat16_is_not_measured(measures: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    made = measures(2.0)
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: False)
    choice = precision.choose(AUTO, CPU)
    assert (choice.precision, made) == ("float32", [])
    assert "no bfloat16" in choice.why


def test_a_machine_is_measured_once_and_other_processes_read_it(measures: Measure) -> None:
    assert len(measures(2.0)) == 0
    assert precision.bf16_speedup() == 2.0
    later = measures(0.5)  # as in another process, on a moment's noise
    assert precision.bf16_speedup() == 2.0
    assert not later


@pytest.mark.parametrize("other", ["_this_cpu", "damaged", "empty", "another form", "negative"])
def test_it_is_measured_again_where_nothing_is_known(
    measures: Measure, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    measures(2.0)
    precision.bf16_speedup()
    [file] = precision.cache_folder().glob("*.json")
    contents = {"damaged": '{"a', "empty": "", "another form": "[1]", "negative": file.read_text().replace("2.0", "-1")}
    if other in contents:
        file.write_text(contents[other])
    else:
        monkeypatch.setattr(precision, other, lambda: "another CPU, torch 9.9")
    made = measures(0.5)
    assert precision.bf16_speedup() == 0.5
    assert made == [1]


def test_without_a_place_for_it_every_process_measures(measures: Measure, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    for _ in range(2):
        made = measures(1.5)
        assert precision.bf16_speedup() == 1.5
        assert made == [1]


def test_those_that_need_it_at_the_same_time_wait_for_the_first(
    measures: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    measures(1.0)
    numbers = itertools.count(1)

    def slow(_: object) -> float:
        time.sleep(0.05)
        return float(next(numbers))

    monkeypatch.setattr(precision, "measure", slow)
    said: list[float] = []
    # flock keeps threads apart as it does processes
    several = [threading.Thread(target=lambda: said.append(precision.bf16_speedup.__wrapped__())) for _ in range(4)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    assert said == [1.0] * 4


def test_the_ratio_is_of_the_fastest_of_each_after_one_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, order = [0.0], list[bool]()
    # first of each the slow start, then a disturbance in each
    seconds = {False: iter([50.0, 6.0, 9.0, 7.0]), True: iter([90.0, 5.0, 4.0, 8.0])}

    def step(in_bf16: bool) -> None:
        order.append(in_bf16)
        assert torch.get_num_threads() == 1
        clock[0] += next(seconds[in_bf16])

    monkeypatch.setattr("daar.training.precision.time.process_time", lambda: clock[0])
    threads = torch.get_num_threads()
    assert precision.measure(step) == 6 / 4
    assert order == [False, True] * 4
    assert torch.get_num_threads() == threads


def test_the_real_step_runs_in_both_and_leaves_the_random_state() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    step = precision._step()
    for in_bf16 in (False, True):
        step(in_bf16)
    assert torch.equal(torch.rand(1), expected)


class KilledError(Exception):
    pass


def _few(pack: Pack) -> Pack:
    return replace(pack, images=pack.images[:128], labels=pack.labels[:128])


def _fresh() -> nn.Module:
    torch.manual_seed(0)
    return models.get("resnet20").build(10)


@pytest.mark.parametrize(("first", "then"), [(2.0, 0.5), (0.5, 2.0)])
def test_a_training_goes_on_in_the_precision_that_it_was_begun_in(
    digits: Path, tmp_path: Path, measures: Measure, first: float, then: float
) -> None:
    train, val = (_few(packed.load(digits / f"{split}.safetensors")) for split in ("train", "val"))
    data = Data(train, val, train.mean, train.std, flip=False)
    undisturbed, resumed, file = _fresh(), _fresh(), tmp_path / "resume.safetensors"
    measures(first)
    expected = engine.fit(undisturbed, data, AUTO, 0, CPU, say=lambda _: None)
    assert expected.precision == ("bf16" if first > 1 else "float32")

    def die(line: str) -> None:
        if line.startswith("epoch 2"):
            raise KilledError

    with pytest.raises(KilledError):
        engine.fit(_fresh(), data, AUTO, 0, CPU, resume_file=file, say=die)
    (precision.cache_folder() / "bf16_speedup.json").unlink()  # as on another machine
    made, said = measures(then), list[str]()
    progress = engine.fit(resumed, data, AUTO, 0, CPU, resume_file=file, say=said.append)
    assert not made
    assert progress.precision == expected.precision
    assert f"{expected.precision} (as it was begun)" in said[0]
    for (name, a), b in zip(resumed.state_dict().items(), undisturbed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
