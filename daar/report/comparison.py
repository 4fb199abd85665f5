"""How the rows of a table were made, in words: it says how much of a difference is due to pruning.

The level is that of Wang et al., "Why is the state of neural network pruning so confusing?" (arXiv 2301.05219, 2023):
S3.2 is the same base model and the same tuning schedule for every method; in S4 the epochs of pruning count as well.
"""

import string
from collections.abc import Iterable

import pandas as pd

from daar.report.collect import finished
from daar.report.context import Context
from daar.report.fairness import own_ratios
from daar.training.recipe import Recipe
from daar.training.schedules import ONE_SHOT


def facts(rows: pd.DataFrame, context: Context) -> tuple[str, ...]:
    """What is equal for the rows of one table, and what is not, a sentence or two each.

    Args:
        rows: its rows of results.csv, fair ones, of one (dataset, network).
        context: names, recipes and methods.
    """
    done = finished(rows)
    seeds = ", ".join(map(str, sorted(set(rows["seed"]))))
    scope = rows["scope"].iloc[0] + ("" if context.round_to == 1 else f", in multiples of {context.round_to} channels")
    first = f"Scope: {scope}. Seeds: {seeds}. Calibration images: {rows['calibration_images'].iloc[0]}."
    if done.empty:
        return (first, "No setting has finished.")
    return (
        first,
        *([context.names.key] if context.names.key else []),
        _bases(done, context),
        f"Tuning: {_tuning(done, context)}",
        f"Level of comparison: {_level(done, context)}",
        _macs(done, context),
        f"Hardware: {hardware(done)}.{_precision(done)}",
    )


def in_words(recipe: Recipe) -> str:
    """A recipe as a reader wants it: optimiser, length, learning rate with its schedule, batch, and the rest."""
    if recipe.epochs == 0:
        return "none, 0 epochs; BN recalibration only"
    optional = (
        (recipe.sparsity > 0, f"penalty {recipe.sparsity:g} Σ|γ| on the scales of BN"),
        (recipe.ema > 0, f"moving average of the weights, decay {recipe.ema:g}"),
        (recipe.mixup > 0, f"mixup {recipe.mixup:g}"),
        (recipe.cutmix > 0, f"CutMix {recipe.cutmix:g}"),
        (recipe.label_smoothing > 0, f"label smoothing {recipe.label_smoothing:g}"),
        (
            recipe.distillation > 0,
            f"distillation from the dense network {recipe.distillation:g} at temperature {recipe.temperature:g}",
        ),
        (recipe.padding > 0, f"random crops with {recipe.padding} pixels of padding"),
        (recipe.flip, "mirroring where the dataset allows it"),
        (recipe.precision != "auto", recipe.precision),
    )
    return ", ".join(
        (
            _optimizer(recipe),
            epochs_text(recipe.epochs),
            _learning_rate(recipe),
            f"batch {recipe.batch_size}",
            f"weight decay {recipe.weight_decay:g}",
            *(words for present, words in optional if present),
        )
    )


def _optimizer(recipe: Recipe) -> str:
    if recipe.optimizer == "adamw":
        return "AdamW with β {:g} and {:g}".format(*recipe.betas)
    momentum = f"momentum {recipe.momentum:g}" if recipe.momentum else "no momentum"
    return f"SGD with {'Nesterov ' if recipe.nesterov else ''}{momentum}"


def epochs_text(epochs: float) -> str:
    """1 epoch, 2 epochs."""
    return f"{epochs:g} epoch{'' if epochs == 1 else 's'}"


def hardware(rows: pd.DataFrame) -> str:
    """The machines that finished rows were tuned on; with the letters of `letters` where there are several."""
    known = letters(rows)
    return "; ".join(f"{letter}: {machine}" if len(known) > 1 else machine for machine, letter in known.items())


def letters(rows: pd.DataFrame) -> dict[str, str]:
    """Machine → the letter that stands for it in a table of finished rows, in the order of their names."""
    return dict(zip(sorted(set(machines(rows))), string.ascii_uppercase, strict=False))


def machines(rows: pd.DataFrame) -> pd.Series:
    """What each finished row was tuned on, in words; str per row."""
    gpus = rows["hardware_gpu"].fillna("no GPU")
    return rows["hardware_cpu"] + " (" + rows["hardware_cores"].astype("string") + " cores), " + gpus


def _precision(rows: pd.DataFrame) -> str:
    """The precision that all were tuned in, as far as records say; `fairness` refuses several."""
    known = sorted(rows["precision"].dropna().unique())
    return f" Tuned in {known[0]}." if known else ""


def names(variants: Iterable[str], context: Context) -> str:
    """Variants by their names, in a sentence."""
    return ", ".join(sorted({context.names.variant(name) for name in variants}))


def _learning_rate(recipe: Recipe) -> str:
    how = {"constant": "", "cosine": " falling to 0 as a cosine"}.get(recipe.schedule, "")
    if recipe.schedule == "step" and recipe.milestones:
        after = " and ".join(map(str, recipe.milestones))
        how = f", times {recipe.gamma:g} after epoch{'s' if len(recipe.milestones) > 1 else ''} {after}"
    warm = f" after a warm-up of {epochs_text(recipe.warmup_epochs)}" if recipe.warmup_epochs else ""
    return f"lr {recipe.lr:g}{how}{warm}"


def _bases(rows: pd.DataFrame, context: Context) -> str:
    if rows["imported"].all():
        return "Dense weights: one imported network, the same for all rows."
    text = "Dense weights: one network per seed, the same for all rows of a seed"
    recipe = context.train
    if recipe is None or set(rows["train_recipe"].dropna()) != {recipe.hash}:
        return f"{text}; training recipe {', '.join(sorted(set(rows['train_recipe'].dropna())))}."
    return f"{text}; trained by {in_words(recipe)} (recipe {recipe.hash})."


def _tuning(rows: pd.DataFrame, context: Context) -> str:
    """The recipe of the methods first, then those of controls alone."""
    usual = set(rows.loc[~rows["control"], "recipe"])
    texts = []
    for (recipe, length), group in rows.groupby(["recipe", "epochs"]):
        epochs = int(str(length))
        if context.finetune is not None and recipe == context.finetune.hash:
            text = f"{in_words(context.finetune)} (recipe {recipe})"
        else:
            text = f"recipe {recipe}, {epochs_text(epochs)}"
        scratch = (group["method"] == "scratch_of").all()
        if scratch and context.train is not None:
            text += ", the dense networks' recipe over that length"
        if recipe not in usual:
            text += f", for {names(group['variant'], context)} alone"
        elif context.finetune is not None and recipe != context.finetune.hash:
            text += ", not the suite's as it is now"
        texts.append((recipe not in usual, text))
    return "; ".join(text for _, text in sorted(texts)) + "."


def _level(rows: pd.DataFrame, context: Context) -> str:
    text = (
        "S3.2 of Wang et al. 2023 (same dense weights and same tuning schedule for every method), checked; S4 counts "
        "the epochs of pruning too: "
    )
    scheduled = _schedules(rows, context)
    if scheduled:
        return scheduled
    outside = set(rows["variant"]) & context.own_program
    if outside:
        text += f"not known for {names(outside, context)} (a program of its own), for all others "
    return text + "0, as scoring and planning train nothing. Nothing in a run is chosen on test images."


def _schedules(rows: pd.DataFrame, context: Context) -> str:
    """What rows by several schedules have in common; empty where all are in one shot."""
    by = {str(name): set(own["variant"]) for name, own in rows.groupby("schedule") if name != ONE_SHOT}
    if not by:
        return ""
    named = "; ".join(f"{name} for {names(variants, context)}" for name, variants in sorted(by.items()))
    return (
        "S4 of Wang et al. 2023 (same dense weights and same epochs for every method, those of pruning counted), "
        f"checked; not S3.2, since schedules differ. Schedules: {named}; one-shot for all others. Each round or step "
        "has the recipe's learning rates, stretched to its epochs; an epoch of a network that is not yet slim costs "
        "more. Nothing in a run is chosen on test images."
    )


def _macs(rows: pd.DataFrame, context: Context) -> str:
    if own_ratios(rows).any():
        return "MACs: every row has ratios of its own; only rows of like size can be compared."
    points = 100 * rows["macs_reduction"].groupby(rows["target"]).agg(lambda values: values.max() - values.min())
    allowed = f"{context.macs_points:g} are allowed"
    return f"MACs removed: rows of one target are {points.max():.2f} points apart at most ({allowed})."
