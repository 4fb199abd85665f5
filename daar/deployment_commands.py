"""What the commands do that prepare a network for its use: export, and how long it takes."""

from argparse import Namespace


def export(a: Namespace) -> None:
    """`daar export`."""
    from daar.stages.export import export as stage

    out, error = stage(folder=a.checkpoint, form=a.format, out=a.out)
    print(f"{out}: equal to the network, largest difference {error:.1e} of the largest logit")
