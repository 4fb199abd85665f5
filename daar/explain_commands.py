"""What the command of the attention pictures does."""

from argparse import Namespace

from daar import arguments, discovery


def explain(a: Namespace) -> None:
    """`daar explain`."""
    method, options = discovery.get(a.method, a.methods_dir), arguments.options(a)
    from daar.stages.explain import explain as stage

    stage(
        base=a.checkpoint,
        plan_file=a.plan,
        method=method,
        options=options,
        packs=arguments.packs(a),
        seed=a.seed,
        images=a.images,
        out=a.out,
        device=arguments.device(a),
    )
    print(f"what {method.name} sees in a shallow and a deep layer: {a.out}")
