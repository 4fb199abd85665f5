"""`daar.groups`: what `daar.prune` could cut, before anything is."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from daar.program.inputs import fewest
from daar.pruned import arguments
from daar.pruned import images as forms
from daar.pruned.network import apart_from, prepared, unwrapped
from daar.pruned.notes import never_run, random_draws
from daar.pruned.proven import proven
from daar.pruned.recurrent import by_steps
from daar.pruning.folding import folded
from daar.pruning.group_report import Groups, groups_of


def groups(model: nn.Module, images: Any, *, exclude: Iterable[str] = (), fold: bool = False) -> Groups:
    """List the channel groups of a network, as `daar.prune` finds and proves them: `print(daar.groups(model, images))`.

    A group is a set of layers whose channels can only be removed together. The list says which layers these are, how
    many MACs go with each channel, which scope of `daar.prune` opens the group, or why it stays whole.

    Args:
        model: any CNN that runs in eval mode; left as it is.
        images: as of `daar.prune`; one or two are enough. MACs are counted for one of this size.
        exclude: as of `daar.prune`: modules whose convs keep all their filters.
        fold: as of `daar.prune`: whether weights that the network computes are made plain ones first.

    Raises:
        InputError: the model does not run on the images, or an argument is wrong.
    """
    arguments.check_types(fold=fold)
    kept = arguments.all_of(exclude, (str,), "exclude")
    network, notes = unwrapped(model)
    taken, _ = forms.collected(network, images, None, 32)
    with torch.inference_mode(mode=False), by_steps(network):
        dense = prepared(network)
        with apart_from(network):
            placed = forms.placed(dense, taken, are_read=False).images
        if fold:
            dense, _ = folded(dense, fewest(dense, placed))
        graph = proven(dense, placed, kept)
        return groups_of(graph, (*notes, *random_draws(graph), *never_run(dense, graph)))
