"""Sentences of a report: what is special about a network that was pruned."""

from torch import nn

from daar.program.draws import draws, seeded
from daar.program.inputs import Images
from daar.program.recording import RunError, record
from daar.pruning.copying import copied
from daar.pruning.groups import ChannelGraph


def ties(slimmed: nn.Module, model: nn.Module) -> tuple[str, ...]:
    """A sentence for each parameter that several modules share and that was cut for all of them."""
    names: dict[int, list[str]] = {}
    for name, value in slimmed.named_parameters(remove_duplicate=False):
        names.setdefault(id(value), []).append(name)
    shapes = {name: value.shape for name, value in model.named_parameters(remove_duplicate=False)}
    held = dict(slimmed.named_parameters(remove_duplicate=False))
    return tuple(
        f"tied: {' and '.join(several)} are one parameter, cut for all of them."
        for several in names.values()
        if len(several) > 1 and held[several[0]].shape != shapes[several[0]]
    )


def random_draws(graph: ChannelGraph) -> tuple[str, ...]:
    """A sentence if the network draws random numbers in eval mode."""
    places = list(dict.fromkeys(op.place() for op in graph.program.operations if draws(op)))
    if not places:
        return ()
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return (
        f"random: the network draws random numbers in eval mode: {places[0]}{more}. Slim and masked network were "
        "compared with the same ones.",
    )


def training_fails(slimmed: nn.Module, graph: ChannelGraph, images: Images) -> tuple[str, ...]:
    """A sentence if the dense network runs heads in training mode that the slim one cannot run."""
    if graph.training is None:
        return ()
    try:
        with seeded():
            record(copied(slimmed), images, training=True)
    except RunError as failure:
        where = f" in {failure.inside[-1]!r}" if failure.inside and failure.inside[-1] else ""
        return (
            f"training: the slim network runs in eval mode only, in training mode it fails{where}: "
            f"{' '.join(str(failure.error).split())[:200]}. Exclude what that reads, or change it by hand.",
        )
    return ()
