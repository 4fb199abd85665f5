"""How the rows of a table were made, in words."""

import pytest

from daar.report.comparison import facts, in_words
from daar.report.context import Context
from daar.training.recipe import Recipe
from tests.report.report_rows import CONTEXT, DAAR, L1, RANDOM, change, frame

STEP = Recipe(epochs=150, lr=0.01, schedule="step", milestones=(50, 100), batch_size=256)
REST = "weight decay 0.0005, random crops with 4 pixels of padding, mirroring where the dataset allows it"


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (
            STEP,
            "SGD with Nesterov momentum 0.9, 150 epochs, lr 0.01, times 0.1 after epochs 50 and 100, batch 256, "
            + REST,
        ),
        (
            Recipe(epochs=1, warmup_epochs=0.5, label_smoothing=0.1, distillation=0.5, padding=0, flip=False),
            "SGD with Nesterov momentum 0.9, 1 epoch, lr 0.1 falling to 0 as a cosine after a warm-up of 0.5 epochs, "
            "batch 128, weight decay 0.0005, label smoothing 0.1, distillation from the dense network 0.5 at "
            "temperature 4",
        ),
        (
            Recipe(schedule="constant", momentum=0, nesterov=False, precision="float32"),
            f"SGD with no momentum, 200 epochs, lr 0.1, batch 128, {REST}, float32",
        ),
        (Recipe(epochs=0), "none, 0 epochs; BN recalibration only"),
    ],
)
def test_recipe_in_words(recipe: Recipe, words: str) -> None:
    assert in_words(recipe) == words


def test_the_suite_s_recipes_are_told_and_others_named() -> None:
    tuned = [change(group, recipe=STEP.hash, train_recipe=Recipe().hash) for group in (L1, DAAR)]
    control = change(RANDOM, train_recipe=Recipe().hash, method="scratch_of")
    context = Context(train=Recipe(), finetune=STEP)
    _, bases, tuning, *_ = facts(frame(*tuned, control), context)
    assert f"trained by {in_words(Recipe())} (recipe {Recipe().hash})" in bases
    assert tuning.startswith(f"Tuning: {in_words(STEP)} (recipe {STEP.hash}); recipe ffffffffffff, 200 epochs")
    assert "the dense networks' recipe over that length, for random alone" in tuning
    old = facts(frame(L1), context)
    assert "recipe 0123456789ab, 150 epochs, not the suite's as it is now" in old[2]
    assert "training recipe x." in old[1]


def test_the_level_names_what_is_not_known() -> None:
    assert "S3.2" in facts(frame(L1), CONTEXT)[3]
    outside = facts(frame(L1, DAAR), Context({"l1": "L1!"}, own_program=frozenset({"l1", "absent"})))[3]
    assert "not known for L1! (a program of its own)" in outside


def test_macs_are_told_in_points() -> None:
    other = change(DAAR, 1, macs_reduction=0.4962)
    far = change(L1, target=0.7, macs_reduction=0.7)
    assert "0.38 points apart" in facts(frame(L1, other, far), CONTEXT)[4]
    assert "ratios of its own" in facts(frame(change(L1, target=float("nan"))), CONTEXT)[4]
    assert "one imported network" in facts(frame(change(L1, imported=True)), CONTEXT)[1]
