"""How long a slim network trains from scratch: as long as the pruned one took, dense training and tuning together.

Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019: Scratch-E has the same epochs, Scratch-B the same
compute.
"""

from dataclasses import replace

from daar.training.recipe import Recipe

BUDGETS = ("epochs", "compute")


def scratch_recipe(train: Recipe, tuning_epochs: int, budget: str, macs_dense: int, macs_slim: int) -> Recipe:
    """The training recipe, stretched to the budget.

    Args:
        train: recipe of the dense network.
        tuning_epochs: of the pruned one.
        budget: `epochs`: as many as both took; `compute`: as many as cost the same MACs.
        macs_dense: of one image.
        macs_slim: likewise.
    """
    epochs = train.epochs + tuning_epochs
    if budget == "compute":
        epochs = round((macs_dense * train.epochs + macs_slim * tuning_epochs) / macs_slim)
    return stretched(train, max(1, epochs))


def stretched(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe with another length; milestones and warm-up keep their place in it."""
    factor = epochs / max(1, recipe.epochs)
    # milestones that fall together would be one fall too few only where epochs are fewer than milestones
    milestones = tuple(sorted({max(1, round(milestone * factor)) for milestone in recipe.milestones}))
    return replace(recipe, epochs=epochs, milestones=milestones, warmup_epochs=recipe.warmup_epochs * factor)
