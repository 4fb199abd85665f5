"""What the commands of the controls do: those that take another variant's plan."""

from argparse import Namespace

from daar.commands import _device, _packs, _recipe, _say
from daar.training.recipe import Recipe


def random_at(a: Namespace) -> None:
    """`daar random-at`."""
    import torch

    from daar import checkpoint
    from daar.pruning import plan as plans
    from daar.pruning.groups import channel_graph
    from daar.pruning.random_at import random_at as draw

    model, about = checkpoint.load(a.checkpoint)
    graph = channel_graph(model, torch.zeros(1, *about.input_shape))
    made = draw(plans.load(a.plan), graph, a.seed)
    plans.save(a.out, made)
    print(f"random channels at the widths of {a.plan}: {made.macs:,} MACs")


def scratch(a: Namespace) -> None:
    """`daar scratch`."""
    recipe = _recipe(a, Recipe())
    from daar.stages.scratch import scratch as stage

    stage(
        base=a.checkpoint,
        plan_file=a.plan,
        packs=_packs(a),
        recipe=recipe,
        tuning_epochs=a.tuning_epochs,
        budget=a.budget,
        seed=a.seed,
        images=a.images,
        out=a.out,
        device=_device(a),
        say=_say(a),
    )
