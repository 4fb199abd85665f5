"""A network as the pruning sees it: its size, its channel groups, and what stays whole."""

from typing import Any

import torch
from tabulate import tabulate

from daar.measure.macs import count_macs, count_params
from daar.models import Network
from daar.pruning.group_report import GroupReport, groups_of, short
from daar.pruning.groups import graph_of


def describe(network: Network, num_classes: int) -> dict[str, Any]:
    """What `daar describe --json` prints; scripts rely on these keys.

    Returns:
        network, title, source, input_shape, macs, params, and groups: each with name, size, min_kept, members (the
        convs that make its channels), readers (the layers that read them), macs (that go when only min_kept stay),
        share (of the network's), macs_per_channel, scopes it is pruned in, and frozen (why it is not, or null).
    """
    model = network.build(num_classes).eval()
    graph = graph_of(model, network.input_shape)
    listed = groups_of(graph)
    return {
        "network": network.name,
        "title": network.title,
        "source": network.source,
        "input_shape": list(network.input_shape),
        "macs": count_macs(model, torch.zeros(1, *network.input_shape)),
        "params": count_params(model),
        "groups": [_group(listed[group.name]) for group in graph.groups],
    }


def _group(group: GroupReport) -> dict[str, Any]:
    """As scripts know it: of the scopes those of the command line; `frozen` is why it is in none."""
    content = group.to_json()
    why = content.pop("why")
    scopes = [scope for scope in group.scopes if scope != "units"]
    return {**content, "scopes": scopes, "frozen": None if scopes else why}


def to_text(description: dict[str, Any]) -> str:
    """The same for a person."""
    head = (
        f"{description['title']} ({description['source']}), input {'x'.join(map(str, description['input_shape']))}: "
        f"{description['macs']:,} MACs (conv + linear, one image), {description['params']:,} parameters"
    )
    rows = [
        {
            "group": group["name"],
            "channels": group["size"],
            "keeps at least": group["min_kept"],
            "MACs a channel": f"{group['macs_per_channel']:,.0f}",
            "share of MACs": f"{group['share']:.1%}",
            "scopes": ", ".join(group["scopes"]) or f"stays whole: {group['frozen']}",
            "made by": short(group["members"]),
            "read by": short(group["readers"]),
        }
        for group in description["groups"]
    ]
    return f"{head}\n\n{tabulate(rows, headers='keys')}"
