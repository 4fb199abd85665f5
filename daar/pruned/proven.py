"""The channel groups of a network of one's own, proven."""

from torch import nn

from daar.errors import InputError
from daar.program.inputs import Images, fewest
from daar.pruned.mixed_types import in_one_type
from daar.pruning.groups import ChannelGraph, channel_graph
from daar.pruning.repairing import proven_graph
from daar.pruning.rules.run import WRITTEN


def proven(dense: nn.Module, images: Images, exclude: tuple[str, ...], *, strict: bool = False) -> ChannelGraph:
    """The channel groups, with what a proof had to repair, where the model is.

    Args:
        dense: a copy of the network.
        images: of which as few are taken as it runs on.
        exclude: patterns of modules whose convs keep all their filters.
        strict: whether numbers of channels in the network's code are refused.

    Raises:
        InputError: they are refused, or the slim network differs however much is kept.
    """
    some = fewest(dense, images)
    repairs = in_one_type(dense, lambda: proven_graph(dense, some, exclude)).repairs
    graph = channel_graph(dense, some, exclude, repairs)
    if strict and (numbers := [*repairs.numbers(), *_written(graph)]):
        raise InputError(
            f"strict: the network's code holds numbers of channels: {'; '.join(numbers)}. Write them as sizes of "
            "tensors (x.shape[1], x.flatten(1)), exclude the modules, or leave strict out."
        )
    return graph


def _written(graph: ChannelGraph) -> list[str]:
    """Why channels stay, as far as it is a number in the code, each reason once."""
    reasons = [reason for group in graph.groups for reason in (group.frozen, *group.fixed.values()) if reason]
    return sorted({reason for reason in reasons if reason.startswith(WRITTEN)})
