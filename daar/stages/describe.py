"""A network as the pruning sees it: its size, its channel groups, and what stays whole."""

from typing import Any

import torch
from tabulate import tabulate

from daar.measure.macs import count_macs, count_params
from daar.models import Network
from daar.pruning.groups import ChannelGraph, Group, graph_of


def describe(network: Network, num_classes: int) -> dict[str, Any]:
    """What `daar describe --json` prints; scripts rely on these keys.

    Returns:
        network, title, source, input_shape, macs, params, and groups: each with name, size, min_kept, members (the
        convs that make its channels), readers (the layers that read them), scopes it is pruned in, and frozen (why it
        is not, or null).
    """
    model = network.build(num_classes).eval()
    graph = graph_of(model, network.input_shape)
    return {
        "network": network.name,
        "title": network.title,
        "source": network.source,
        "input_shape": list(network.input_shape),
        "macs": count_macs(model, torch.zeros(1, *network.input_shape)),
        "params": count_params(model),
        "groups": [_group(group, graph) for group in graph.groups],
    }


def _group(group: Group, graph: ChannelGraph) -> dict[str, Any]:
    channels = set(group.channels.tolist())
    readers = [layer.name for layer in graph.layers.values() if layer.reads(channels)]
    # a shortcut that pads copies channels by their numbers
    readers += [
        name.rpartition(".")[0] for name, read in graph.values.items() if not channels.isdisjoint(read.tolist())
    ]
    scopes = [scope for scope in ("inner", "all") if group in graph.in_scope(scope)]
    return {
        "name": group.name,
        "size": group.size,
        "min_kept": group.min_kept,
        "members": list(group.members),
        "readers": readers,
        "scopes": scopes,
        "frozen": group.frozen,
    }


def to_text(description: dict[str, Any]) -> str:
    """The same for a person."""
    head = (
        f"{description['title']} ({description['source']}), input {'x'.join(map(str, description['input_shape']))}: "
        f"{description['macs']:,} MACs (conv + linear, one image), {description['params']:,} parameters"
    )
    rows = [
        {
            "group": group["name"],
            "size": group["size"],
            "keeps at least": group["min_kept"],
            "scopes": ", ".join(group["scopes"]) or f"stays whole: {group['frozen']}",
            "made by": _short(group["members"]),
            "read by": _short(group["readers"]),
        }
        for group in description["groups"]
    ]
    return f"{head}\n\n{tabulate(rows, headers='keys')}"


def _short(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]}, … {names[-1]} ({len(names)})"
