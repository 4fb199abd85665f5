"""Resume files that are none: each is refused in one line, before a training goes on from it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from daar.errors import InputError
from daar.training import optimizers, resume
from daar.training.progress import Epoch, Progress
from daar.training.recipe import Recipe
from daar.training.trained import Trained

CPU = torch.device("cpu")
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[resume.Run, Trained]:
    """A training after its first epoch."""
    recipe: Recipe = getattr(request, "param", Recipe())
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    trained = Trained(model, optimizers.make(recipe, model.parameters(), CPU), recipe.ema)
    model(torch.randn(4, 2)).sum().backward()
    trained.optimizer.step()
    trained.add_step()
    run = resume.Run({"seed": 0}, tmp_path / "resume.safetensors", lambda _: None)
    progress = Progress()
    progress.add(Epoch(1, 0.1, 1.0, 50.0, 50.0, 1.0), model)
    run.save(trained, progress)
    return run, trained


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t, _: t.pop("model.0.weight"), "lacks model.0.weight"),
        (lambda t, _: t.pop("best.1.bias"), "lacks best.1.bias"),
        (lambda t, _: t.update({"best.x": torch.zeros(1)}), "has best.x"),
        (lambda t, _: t.update({"momentum_buffer.x": torch.zeros(1)}), "momentum_buffer.x has another shape or type"),
        (
            lambda t, _: t.update({"momentum_buffer.0.weight": torch.zeros(3)}),
            "momentum_buffer.0.weight has another shape",
        ),
        # of a version that called it so: going on without it would be another training
        (lambda t, _: t.update({"momentum.0.weight": torch.zeros(2, 2)}), "has momentum.0.weight"),
        (lambda t, _: t.update({"exp_avg.0.weight": torch.zeros(2, 2)}), "has exp_avg.0.weight"),
        (lambda t, _: t.update({"model.0.weight": torch.zeros(2, 2).double()}), "model.0.weight has another"),
        (lambda t, _: t["model.0.weight"].fill_(float("nan")), "0.weight has 4 NaN values of 4"),
        (lambda _, a: a.update(best_epoch=7), "a curve of epochs from 1 on"),
        (lambda _, a: a["curve"].append(a["curve"][0]), "a curve of epochs from 1 on"),
        (lambda _, a: a["curve"][0].update(loss="1"), "loss"),
        (lambda _, a: a.update(partial={"losses": None, "correct": 0, "seconds": 0}), "losses"),
        (lambda _, a: a.pop("threads"), "'threads' is a required property"),
        (lambda _, a: a.update(identity=[]), "identity"),
    ],
)
def test_a_file_that_is_no_state_of_this_training_is_refused(
    saved: tuple[resume.Run, Trained], change: Callable[[Tensors, dict[str, Any]], Any], said: str
) -> None:
    run, trained = saved
    assert run.path is not None
    with safetensors.safe_open(run.path, "pt") as file:
        about = json.loads(file.metadata()["run"])
    tensors = safetensors.torch.load(run.path.read_bytes())
    assert len(run.load(trained, CPU).curve) == 1
    change(tensors, about)
    safetensors.torch.save_file(tensors, run.path, metadata={"run": json.dumps(about)})
    with pytest.raises(InputError) as error:
        run.load(trained, CPU)
    assert said in str(error.value)
    assert str(error.value).endswith("Delete it to start again.")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("saved", [Recipe(optimizer="adamw", ema=0.9)], indirect=True)
@pytest.mark.parametrize(
    "part", ["step.0.weight", "exp_avg_sq.1.bias", "average.module.0.weight", "average.n_averaged"]
)
def test_adamw_s_and_the_average_s_tensors_are_checked_too(saved: tuple[resume.Run, Trained], part: str) -> None:
    run, trained = saved
    assert run.path is not None
    tensors = safetensors.torch.load(run.path.read_bytes())
    with safetensors.safe_open(run.path, "pt") as file:
        about = file.metadata()
    assert len(run.load(trained, CPU).curve) == 1
    safetensors.torch.save_file({**tensors, part: torch.zeros(7)}, run.path, metadata=about)
    with pytest.raises(InputError, match=f"{part} has another shape or type than here. Delete it to start again"):
        run.load(trained, CPU)
