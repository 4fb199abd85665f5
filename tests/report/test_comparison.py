"""How the rows of a table were made, in words."""

import pytest

from daar.report.comparison import facts, in_words, names
from daar.report.context import Context
from daar.training.recipe import Recipe
from tests.report.report_rows import CONTEXT, DAAR, L1, RANDOM, SCRATCH, change, frame, lost, named

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
        (
            Recipe(schedule="step", milestones=(7,), gamma=0.2, warmup_epochs=1, padding=0, flip=False),
            "SGD with Nesterov momentum 0.9, 200 epochs, lr 0.1, times 0.2 after epoch 7 after a warm-up of 1 epoch, "
            "batch 128, weight decay 0.0005",
        ),
        (
            Recipe(schedule="step", milestones=(), padding=1, flip=False),
            "SGD with Nesterov momentum 0.9, 200 epochs, lr 0.1, batch 128, weight decay 0.0005, random crops with "
            "1 pixels of padding",
        ),
        (
            Recipe(optimizer="adamw", sparsity=1e-4, ema=0.999, mixup=0.2, cutmix=1.0, padding=0, flip=False),
            "AdamW with β 0.9 and 0.999, 200 epochs, lr 0.1 falling to 0 as a cosine, batch 128, weight decay 0.0005, "
            "penalty 0.0001 Σ|γ| on the scales of BN, moving average of the weights, decay 0.999, mixup 0.2, CutMix 1",
        ),
        (Recipe(epochs=0), "none, 0 epochs; BN recalibration only"),
    ],
)
def test_recipe_in_words(recipe: Recipe, words: str) -> None:
    assert in_words(recipe) == words


def test_the_suite_s_recipes_are_told_and_others_named() -> None:
    tuned = [change(group, recipe=STEP.hash, train_recipe=Recipe().hash) for group in (L1, DAAR)]
    control = change(SCRATCH, train_recipe=Recipe().hash)
    context = Context(train=Recipe(), finetune=STEP)
    _, bases, tuning, *_ = facts(frame(*tuned, control), context)
    assert f"trained by {in_words(Recipe())} (recipe {Recipe().hash})" in bases
    assert tuning.startswith(f"Tuning: {in_words(STEP)} (recipe {STEP.hash}); recipe ffffffffffff, 200 epochs")
    assert "the dense networks' recipe over that length, for scratch alone" in tuning
    old = facts(frame(L1), context)
    assert "recipe 0123456789ab, 150 epochs, not the suite's as it is now" in old[2]
    assert "training recipe 0123456789ab." in old[1]


def test_the_level_names_what_is_not_known() -> None:
    assert "S3.2" in facts(frame(L1), CONTEXT)[3]
    outside = facts(frame(L1, DAAR), Context(named({"l1": "L1!"}), own_program=frozenset({"l1", "absent"})))[3]
    assert "not known for L1! (a program of its own)" in outside


def test_variants_are_listed_once_in_the_order_of_their_names() -> None:
    assert names(["l1", "daar", "l1", "fpgm"], Context(named({"daar": "Z"}))) == "Z, fpgm, l1"


def test_macs_are_told_in_points() -> None:
    other = change(DAAR, 1, macs_reduction=0.4962)
    far = change(L1, target=0.7, macs_reduction=0.7)
    assert "0.38 points apart" in facts(frame(L1, other, far), CONTEXT)[4]
    assert "25.00 points apart" in facts(frame(L1, change(DAAR, 1, macs_reduction=0.25)), CONTEXT)[4]
    assert "ratios of its own" in facts(frame(change(L1, target=float("nan"))), CONTEXT)[4]
    assert "one imported network" in facts(frame(change(L1, imported=True)), CONTEXT)[1]


def test_all_facts_of_a_plain_table() -> None:
    gpu = change(DAAR, 1, hardware_cpu="Xeon", hardware_cores=8, hardware_gpu="H200")
    assert facts(frame(L1, gpu, SCRATCH), Context(names=named({"scratch": "Fresh"}))) == (
        "Scope: all. Seeds: 0, 1, 2. Calibration images: 640.",
        "Dense weights: one network per seed, the same for all rows of a seed; training recipe 0123456789ab.",
        "Tuning: recipe 0123456789ab, 150 epochs; recipe ffffffffffff, 200 epochs, for Fresh alone.",
        "Level of comparison: S3.2 of Wang et al. 2023 (same dense weights and same tuning schedule for every method), "
        "checked; S4 counts the epochs of pruning too: 0, as scoring and planning train nothing. Nothing in a run "
        "is chosen on test images.",
        "MACs removed: rows of one target are 0.00 points apart at most (0.5 are allowed).",
        "Hardware: A: EPYC_7 (2 cores), no GPU; B: Xeon (8 cores), H200. Tuned in bf16.",
    )


def test_the_methods_recipe_is_first_whatever_its_hash() -> None:
    tuning = facts(frame(change(L1, recipe="f" * 12), change(SCRATCH, recipe="0" * 12)), CONTEXT)[2]
    assert tuning == "Tuning: recipe ffffffffffff, 150 epochs; recipe 000000000000, 200 epochs, for scratch alone."


def test_only_controls_from_scratch_have_the_dense_networks_recipe() -> None:
    control = change(RANDOM, method="random_at")
    assert "dense networks' recipe" not in facts(frame(L1, control), Context(train=Recipe()))[2]
    assert "dense networks' recipe" not in facts(frame(L1, change(RANDOM, method="scratch_of")), CONTEXT)[2]


def test_training_recipes_other_than_the_suite_s_are_named() -> None:
    mixed = [change(L1, train_recipe=Recipe().hash), change(DAAR, train_recipe="e" * 12)]
    both = ", ".join(sorted((Recipe().hash, "e" * 12)))
    assert facts(frame(*mixed), Context(train=Recipe()))[1].endswith(f"training recipe {both}.")


def test_a_table_of_failures_says_so() -> None:
    first = "Scope: all. Seeds: 0, 1, 2. Calibration images: 640."
    eights = facts(frame(L1), Context(round_to=8))[0]
    assert eights == first.replace("all.", "all, in multiples of 8 channels.")
    assert facts(frame([lost(row) for row in L1]), CONTEXT) == (first, "No setting has finished.")
    # seeds are those that were asked for, all else is of what has finished
    partly = facts(frame([L1[0], lost(L1[1]), lost(L1[2])]), CONTEXT)
    assert partly[0] == first
    assert len(partly) == 6


def test_schedules_are_named_where_they_differ() -> None:
    soft = change(DAAR, schedule="soft", schedule_options='{"interval": 1}')
    level = next(fact for fact in facts(frame(L1, soft), CONTEXT) if fact.startswith("Level"))
    assert level.startswith("Level of comparison: S4 of Wang et al. 2023")
    assert "Schedules: soft for DAAR (reconstructed); one-shot for all others." in level
    usual = next(fact for fact in facts(frame(L1, DAAR), CONTEXT) if fact.startswith("Level"))
    assert usual.startswith("Level of comparison: S3.2")
