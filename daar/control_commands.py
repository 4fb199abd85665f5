"""What the commands of the controls do: those that take another variant's plan."""

from argparse import Namespace

from daar import arguments
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
    recipe = arguments.recipe(a, Recipe())
    from daar.stages.scratch import scratch as stage

    stage(
        base=a.checkpoint,
        plan_file=a.plan,
        packs=arguments.packs(a),
        recipe=recipe,
        tuning_epochs=a.tuning_epochs,
        budget=a.budget,
        seed=a.seed,
        images=a.images,
        out=a.out,
        device=arguments.device(a),
        say=arguments.say(a),
    )
