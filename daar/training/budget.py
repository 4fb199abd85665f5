"""How long a slim network trains from scratch: as long as dense training and tuning together.

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
        tuning_epochs: epochs that the pruned network is tuned.
        budget: `epochs`: as many epochs as dense training and tuning; `compute`: as many as cost the same MACs.
        macs_dense: of the dense network, for one image.
        macs_slim: of the slim network, for one image.
    """
    epochs = train.epochs + tuning_epochs
    if budget == "compute":
        epochs = round((macs_dense * train.epochs + macs_slim * tuning_epochs) / macs_slim)
    return stretched(train, max(1, epochs))


def stretched(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe with another number of epochs; milestones and warm-up are scaled with it."""
    factor = epochs / max(1, recipe.epochs)
    # two milestones round to the same epoch only where epochs are about as few as milestones; one fall is lost then
    milestones = tuple(sorted({max(1, round(milestone * factor)) for milestone in recipe.milestones}))
    return replace(recipe, epochs=epochs, milestones=milestones, warmup_epochs=recipe.warmup_epochs * factor)
