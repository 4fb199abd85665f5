"""The published recipes: their learning rates against their sources' own formulas; names, overrides and damage."""

import json
import math
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from daar.cli import arguments, training
from daar.cli.main import main
from daar.errors import InputError
from daar.training import published_recipes
from daar.training import recipe as recipe_module
from daar.training.recipe import Recipe


def multistep(lr: float, milestones: list[int], gamma: float, epochs: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def chip(epoch: int) -> float:
    """CHIP's adjust_learning_rate at an epoch's first step, without its warm-up."""
    return 0.5 * 0.01 * (1 + math.cos(math.pi * (epoch - 5) / (400 - 5)))


# the rates of every epoch, and batch, momentum, Nesterov, weight decay, as the sources state them
SOURCES: dict[str, tuple[list[float], tuple[int, float, bool, float]]] = {
    "hrankplus": (multistep(0.01, [50, 100], 0.1, 150), (256, 0.9, False, 5e-4)),
    "chip": ([chip(epoch) for epoch in range(400)], (256, 0.9, False, 5e-3)),
    "network-slimming-train": ([0.1] * 80 + [0.01] * 40 + [0.001] * 40, (64, 0.9, False, 1e-4)),
    "pfec": ([0.001] * 40, (64, 0.9, False, 1e-4)),
    "pfec-train": ([0.1] * 80 + [0.01] * 40 + [0.001] * 40, (64, 0.9, False, 1e-4)),
    "fpgm": ([0.01] * 60 + [0.002] * 60 + [0.0004] * 40 + [0.00008] * 40, (128, 0.9, True, 5e-4)),
    "fpgm-train": ([0.1] * 60 + [0.02] * 60 + [0.004] * 40 + [0.0008] * 40, (128, 0.9, True, 5e-4)),
}


def test_there_are_those_of_five_papers() -> None:
    assert list(published_recipes.find()) == sorted(SOURCES)
    for name, published in published_recipes.find().items():
        assert published.purpose == ("train" if name.endswith("-train") else "finetune")
        assert published.deviations, name


@pytest.mark.parametrize("name", SOURCES)
def test_rates_are_the_sources(name: str) -> None:
    recipe, (rates, others) = published_recipes.find()[name].recipe, SOURCES[name]
    assert (recipe.epochs, recipe.padding, recipe.flip) == (len(rates), 4, True)
    assert (recipe.batch_size, recipe.momentum, recipe.nesterov, recipe.weight_decay) == others
    assert (recipe.label_smoothing, recipe.distillation) == (0, 0)
    assert recipe.sparsity == (1e-4 if name == "network-slimming-train" else 0)
    start = 5 if name == "chip" else 0
    ours = [recipe.lr_at(epoch) for epoch in range(recipe.epochs)]
    assert ours[start:] == pytest.approx(rates[start:], rel=1e-9)


def test_chips_warmup_differs_by_what_its_file_says() -> None:
    recipe = published_recipes.find()["chip"].recipe
    steps = 196  # of 256 among 50,000
    for epoch in range(5):
        for step in range(0, steps, 10):
            theirs = chip(epoch) * (1 + step + epoch * steps) / (5 * steps)
            # their first step is one of theirs, ours is 0
            assert theirs == pytest.approx(recipe.lr_at(epoch + (step + 1) / steps), rel=4.1e-4)


def test_the_name_alone_settings_over_it_and_settings_alone() -> None:
    whole = published_recipes.find()["hrankplus"].recipe
    assert published_recipes.resolve("hrankplus", "finetune", "here") == whole
    assert published_recipes.resolve(whole.to_json(), "finetune", "here").hash == whole.hash
    changed = published_recipes.resolve({"recipe": "hrankplus", "epochs": 10, "distillation": 0.5}, "finetune", "here")
    assert {key for key, value in changed.to_json().items() if value != whole.to_json()[key]} == {
        "epochs",
        "distillation",
    }
    assert published_recipes.resolve({}, "train", "here") == Recipe()


def test_another_schedule_drops_the_milestones_and_keeps_the_rest() -> None:
    cosine = published_recipes.resolve({"recipe": "hrankplus", "schedule": "cosine"}, "finetune", "here")
    assert (cosine.milestones, cosine.batch_size, cosine.lr_at(75)) == ((), 256, pytest.approx(0.005))
    same = published_recipes.resolve({"recipe": "hrankplus", "schedule": "step"}, "finetune", "here")
    assert same.milestones == (50, 100)


def test_the_default_of_daar_finetune_is_the_paper_suite_s() -> None:
    assert published_recipes.resolve({"recipe": "hrankplus", "nesterov": True}, "finetune", "here") == training.TUNING


# the command line


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recipe]:
    def parse(*words: str) -> Recipe:
        made: list[Recipe] = []

        def take(a: Namespace) -> None:
            made.append(arguments.recipe(a, training.TUNING, "finetune"))

        monkeypatch.setattr(training, "finetune", take)
        main(["finetune", "c", "--plan", "p", "--dataset", "digits", "--out", "o", *words])
        return made[0]

    return parse


def test_recipe_takes_a_name_json_or_a_file(said: Callable[..., Recipe], tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("{recipe: pfec, epochs: 3}")
    assert said("--recipe", "pfec") == published_recipes.find()["pfec"].recipe
    expected = published_recipes.resolve({"recipe": "pfec", "epochs": 3}, "finetune", "here")
    assert said("--recipe", str(file)) == said("--recipe", "pfec", "--epochs", "3") == expected
    assert said("--recipe", '{"recipe": "pfec", "epochs": 3}') == expected
    assert said("--recipe", "hrankplus", "--schedule", "cosine").milestones == ()
    assert said("--distillation", "0.5", "--temperature", "2").temperature == 2
    with pytest.raises(SystemExit):
        said("--recipe", "pfec-train")


def test_what_trains_from_scratch_cannot_be_distilled(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["train", "--network", "resnet20"], ["scratch", "c", "--plan", "p", "--tuning-epochs", "1"]):
        with pytest.raises(SystemExit) as stopped:
            main([*command, "--dataset", "digits", "--out", "o", "--distillation", "0.5"])
        assert stopped.value.code == 2
        assert "recipe: distillation is 0.5, but what trains from scratch has no teacher" in capsys.readouterr().err


def test_list_tells_scripts_all_of_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", "recipes", "--json"])
    for name, listed in json.loads(capsys.readouterr().out).items():
        assert recipe_module.from_json(listed["settings"], "here").hash == listed["hash"]
        assert (listed["title"], listed["for"]) == (
            published_recipes.find()[name].title,
            published_recipes.find()[name].purpose,
        )
        assert "@" in listed["source"]
        assert listed["deviations"]
    main(["list", "recipes"])
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) < 250 for line in lines)


# files


def entry(**changes: Any) -> dict[str, Any]:
    content = {
        "title": "Mine",
        "source": {"paper": "Me, 2026", "where": "https://example.org"},
        "for": "finetune",
        "settings": {"epochs": 3},
        "deviations": [],
    }
    return {**content, **changes}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], Any]]:
    monkeypatch.setattr(published_recipes, "FOLDER", tmp_path)
    yield lambda content: (tmp_path / "mine.yaml").write_text(
        content if isinstance(content, str) else yaml.safe_dump(content)
    )
    published_recipes.load.cache_clear()


def test_dropping_a_file_in_is_enough(write: Callable[[Any], Any]) -> None:
    write(entry())
    assert published_recipes.resolve("mine", "finetune", "here") == Recipe(epochs=3)
    with pytest.raises(
        InputError, match=r"unknown train recipe in here 'mine'; there are: none. 'mine' is for finetune"
    ):
        published_recipes.resolve("mine", "train", "here")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("title: [", "is not YAML"),
        ("", "is not of type 'object'"),
        (entry(settings={}), "settings"),
        (entry(settings={"epocs": 3}), "settings: unknown key 'epocs'; a recipe has: epochs,"),
        (entry(settings={"epochs": -3}), "epochs is -3; it must be 0 or more"),
        (entry(settings={"recipe": "chip"}), "unknown key 'recipe'"),
        (entry(**{"for": "pruning"}), "for: 'pruning' is not one of .*dense networks, or pruned ones"),
        (entry(**{"for": "train"}, settings={"distillation": 0.5}), "has no teacher"),
        (entry(source={"paper": "x", "where": "somewhere"}), "where"),
        (entry(rate=1), "'rate' was unexpected.*known keys are deviations, for"),
    ],
)
def test_a_damaged_file_is_named(write: Callable[[Any], Any], content: Any, said: str) -> None:
    write(content)
    with pytest.raises(InputError, match=said) as error:
        published_recipes.resolve("mine", "finetune", "here")
    assert "mine.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_another_optimizer_drops_what_is_one_s_alone(write: Callable[[Any], Any]) -> None:
    write(entry(settings={"epochs": 3, "nesterov": False, "momentum": 0.8, "weight_decay": 0.1}))
    said = {"recipe": "mine", "optimizer": "adamw", "lr": 0.001}
    expected = Recipe(epochs=3, optimizer="adamw", lr=0.001, weight_decay=0.1)
    assert published_recipes.resolve(said, "finetune", "here") == expected
    same = published_recipes.resolve({"recipe": "mine", "optimizer": "sgd"}, "finetune", "here")
    assert same == Recipe(epochs=3, nesterov=False, momentum=0.8, weight_decay=0.1)


def test_importing_is_light() -> None:
    code = (
        "import sys; from daar.training import published_recipes; published_recipes.find();"
        "heavy = {'torch', 'numpy'} & set(sys.modules); sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
