import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daar.errors import InputError
from daar.training import recipe as recipes
from daar.training.recipe import Recipe


def test_cosine_is_torch_s() -> None:
    recipe = Recipe(epochs=20, lr=0.3)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for epoch in range(20):
        assert recipe.lr_at(epoch) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_step_is_torch_s() -> None:
    recipe = Recipe(epochs=12, lr=0.1, schedule="step", milestones=(3, 7), gamma=0.2)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[3, 7], gamma=0.2)
    for epoch in range(12):
        # within an epoch a step schedule does not move
        for progress in (epoch, epoch + 0.5, epoch + 0.999):
            assert recipe.lr_at(progress) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        scheduler.step()


def test_warmup_rises_linearly_to_the_schedule() -> None:
    recipe = Recipe(epochs=10, lr=0.4, warmup_epochs=2)
    assert [recipe.lr_at(p) for p in (0, 0.5, 1, 2)] == pytest.approx([0, 0.1, 0.2, 0.4])
    assert recipe.lr_at(6) == pytest.approx(0.2)  # half way through the cosine
    assert recipe.lr_at(10) == pytest.approx(0)


@given(st.floats(0, 200), st.sampled_from(["constant", "cosine"]), st.floats(0, 20))
def test_lr_stays_between_zero_and_its_maximum(progress: float, schedule: str, warmup: float) -> None:
    assert 0 <= Recipe(schedule=schedule, warmup_epochs=warmup).lr_at(progress) <= 0.1 + 1e-12


def test_hash_depends_on_settings_not_on_spelling() -> None:
    spelled = recipes.from_json({"milestones": [2, 4], "schedule": "step", "lr": 0.1}, "here")
    assert spelled.hash == Recipe(schedule="step", milestones=(2, 4)).hash
    assert spelled.hash != Recipe(schedule="step", milestones=(2, 5)).hash


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epocs": 3}, "unknown key 'epocs'"),
        ({"epochs": -1}, "epochs is -1; it must be 0 or more"),
        ({"lr": 0}, "lr is 0"),
        ({"lr": math.inf}, "lr is inf"),
        ({"schedule": "linear"}, "one of constant, step, cosine"),
        ({"warmup_epochs": 300}, "warmup_epochs is 300"),
        ({"batch_size": 1}, "batch norm needs two"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"distillation": 1.1}, "distillation is 1.1; it must be in [0, 1]"),
        ({"distillation": -0.1}, "distillation is -0.1"),
        ({"distillation": math.nan}, "distillation is nan"),
        ({"distillation": "half"}, "wrong type"),
        ({"distillation": 0.5, "temperature": 0}, "temperature is 0; it must be above 0"),
        ({"distillation": 0.5, "temperature": math.inf}, "temperature is inf"),
        ({"temperature": 2}, "temperature is 2; it must be absent, unless distillation is above 0"),
        ({"milestones": [5]}, "milestones is (5,); it must be absent"),
        ({"schedule": "step", "milestones": [5, 3]}, "it must be rising"),
        ({"precision": "fp16"}, "one of auto, bf16, float32"),
        ({"momentum": 0.0}, "nesterov"),
        ({"epochs": "ten"}, "wrong type"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; it must be one of sgd, adamw"),
        ({"betas": [0.9, 0.99]}, "betas is (0.9, 0.99); it must be absent, unless the optimizer is adamw"),
        ({"optimizer": "adamw", "betas": [0.9]}, "betas is (0.9,); it must be two numbers in [0, 1)"),
        ({"optimizer": "adamw", "betas": [0.9, 1]}, "it must be two numbers in [0, 1)"),
        ({"optimizer": "adamw", "betas": 0.9}, "wrong type"),
        ({"optimizer": "adamw", "betas": "ab"}, "wrong type"),
        ({"optimizer": "adamw", "momentum": 0.8}, "momentum is 0.8; it must be absent, unless the optimizer is sgd"),
        ({"optimizer": "adamw", "nesterov": False}, "nesterov is False; it must be absent"),
        ({"ema": 1.0}, "ema is 1.0; it must be in [0, 1)"),
        ({"ema": -0.1}, "ema is -0.1"),
        ({"mixup": -1}, "mixup is -1.0; it must be 0, or 0.000001 or more"),
        ({"mixup": 1e-46}, "mixup is 1e-46; it must be 0, or"),  # 0 in float32
        ({"cutmix": "1"}, "cutmix: '1' is not of type 'number'"),
        ({"ema": True}, "ema is 1.0"),
        ({"sparsity": 10**400}, "too large"),
        ({"cutmix": math.inf}, "cutmix is inf"),
        ({"mixup": math.nan}, "mixup is nan"),
        ({"sparsity": "a"}, "wrong type"),
    ],
)
def test_bad_settings_are_named(settings: dict, said: str) -> None:
    with pytest.raises(InputError) as error:
        recipes.from_json(settings, "here")
    assert said in str(error.value)


def test_settings_that_came_later_leave_earlier_hashes_as_they_were() -> None:
    # of records that were made before there were optimizers to choose from
    assert Recipe().hash == "03690abb3b8a"
    later = ({"optimizer": "adamw"}, {"ema": 0.99}, {"mixup": 0.2}, {"cutmix": 1.0}, {"sparsity": 1e-4})
    assert len({Recipe(**settings).hash for settings in ({}, *later)}) == 6
    for settings in later:
        recipe = Recipe(**settings)
        assert settings.items() <= recipe.to_json().items()
        assert recipes.from_json(recipe.to_json(), "here") == recipe
    assert (
        recipes.from_json({"optimizer": "adamw", "betas": [0.9, 0.999]}, "here").hash == Recipe(optimizer="adamw").hash
    )


@pytest.mark.parametrize("key", ["sparsity", "mixup", "cutmix"])
def test_a_whole_number_is_the_same_setting(key: str) -> None:
    whole = recipes.from_json({key: 1}, "here")
    assert whole.hash == recipes.from_json({key: 1.0}, "here").hash
    assert type(getattr(whole, key)) is float
    assert Recipe(optimizer="adamw", betas=(0, 0)).hash == Recipe(optimizer="adamw", betas=(0.0, 0.0)).hash
