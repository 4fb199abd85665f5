"""Operations that only move channels: which may go, which must stay, and that what is left computes the same."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from daar.errors import InputError
from daar.models import get
from daar.pruning.groups import channel_graph
from daar.pruning.plan import Plan, PlannedGroup
from daar.pruning.proof import slim_error
from daar.pruning.slim import slim
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruning.test_groups import Net, conv, head, parts, prunes_exactly


class Excite(nn.Module):
    """Squeeze and excitation as mostly written: linear layers, sizes of the input, expand_as."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 6), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        return x * self.gate(x.mean((2, 3)).view(b, c)).view(b, c, 1, 1).expand_as(x)


def swap(halves: Any) -> Tensor:
    return torch.cat([halves[1], halves[0]], 1)


def shuffle(x: Tensor) -> Tensor:
    batch, channels, height, width = x.size()
    return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, -1, height, width)


# what may go, as sizes of the groups of `a` (6 channels), and which of `a` must stay
FREE: dict[str, tuple[Callable[..., Any], int, list[int]]] = {
    "chunk": (lambda m, x: head(m, torch.cat(m.a(x).chunk(2, 1), 1)), 3, []),
    "halves of a chunk apart": (lambda m, x: head(m, swap(m.a(x).chunk(2, dim=1))), 3, []),
    "split at written places": (lambda m, x: head(m, torch.cat(m.a(x).split(2, 1), 1)), 6, [0, 1, 2, 3, 4, 5]),
    "shuffle by views": (lambda m, x: head(m, shuffle(m.a(x))), 3, []),
    "shuffle by permute": (
        lambda m, x: head(m, m.a(x).view(-1, 2, m.a(x).shape[1] // 2, 8, 8).permute(0, 2, 1, 3, 4).flatten(1, 2)),
        3,
        [],
    ),
    "shuffle by another tensor's size": (
        lambda m, x: head(m, m.a(x).view(-1, 2, x.size(1), 8, 8).transpose(1, 2).flatten(1, 2)),
        3,
        [0, 1, 2, 3, 4, 5],
    ),
    "shuffle by the other transpose": (
        lambda m, x: head(m, parts(m.a(x)).transpose(2, 1).contiguous().flatten(1, 2)), 3, [],
    ),
    "shuffle by a tuple's permute": (
        lambda m, x: head(m, torch.permute(parts(m.a(x)), (0, 2, 1, 3, 4)).flatten(1, 2)), 3, [],
    ),
    "shuffle back to a written size": (
        lambda m, x: head(m, parts(m.a(x)).transpose(1, 2).reshape(-1, 6, 8, 8)), 3, [0, 1, 2],
    ),
    "shuffle function": (lambda m, x: head(m, F.channel_shuffle(m.a(x), 3)), 2, []),
    "shuffle layer": (lambda m, x: head(m, m.shuffle(m.a(x))), 2, []),
    "shuffle of written size": (
        lambda m, x: head(m, m.a(x).view(-1, 2, 3, 8, 8).transpose(1, 2).reshape(-1, 6, 8, 8)), 3, [0, 1, 2, 3, 4, 5],
    ),
    "written slice": (lambda m, x: head(m, torch.cat([m.a(x)[:, 1:3], m.b(x)], 1)), 6, [0, 1, 2, 3, 4, 5]),
    "slice with a step": (lambda m, x: head(m, torch.cat([m.a(x)[:, ::3], m.b(x)], 1)), 6, [0, 1, 2, 3, 4, 5]),
    "slice of all": (lambda m, x: head(m, m.a(x)[:]), 6, []),
    "slice in space": (lambda m, x: head(m, m.a(x)[:, :, ::2, 1:]), 6, []),
    "slice of lines behind an ellipsis": (lambda m, x: m.head(m.a(x).flatten(2)[..., 1:].mean(2)), 6, []),
    "slice behind an ellipsis": (lambda m, x: head(m, m.a(x)[..., 1:, ::2]), 6, []),
    "pad in space": (lambda m, x: head(m, F.pad(m.a(x), (1, 0, 2, 1))), 6, []),
    "pad of channels": (lambda m, x: head(m, F.pad(m.c(x), (0, 0, 0, 0, 1, 3)) + m.a(x)), 6, [2, 3, 4, 5]),
    "pad of channels behind": (lambda m, x: head(m, F.pad(m.c(x), (0, 0, 0, 0, 0, 4)) + m.a(x)), 6, [2, 3, 4, 5]),
    "flatten of written size": (lambda m, x: m.wide(m.a(x).view(-1, 384)), 6, [0, 1, 2, 3, 4, 5]),
    "flatten of computed size": (lambda m, x: m.wide(m.a(x).reshape(x.size(0), -1)), 6, []),
    "flatten by a tuple of sizes": (lambda m, x: m.wide(torch.reshape(m.a(x), (x.size(0), -1))), 6, []),
    "flatten by sizes by name": (lambda m, x: m.wide(torch.reshape(m.a(x), shape=(x.size(0), -1))), 6, []),
    "flat twice": (lambda m, x: m.head(m.a(x).mean((2, 3)).flatten(1)), 6, []),
    "concatenation counted from behind": (lambda m, x: head(m, torch.cat(m.a(x).chunk(2, 1), -3)), 3, []),
    "gate of one channel expanded": (
        lambda m, x: head(m, m.a(x) * m.c(x)[:, :1].expand_as(m.a(x))), 6, [0, 1, 2, 3, 4, 5],
    ),
    "excitation with linear layers": (lambda m, x: head(m, m.excite(m.a(x))), 6, []),
    "a position more in space": (lambda m, x: m.head(m.a(x).flatten(2).mean(-1)), 6, []),
    "squeezes": (lambda m, x: m.head(m.a(x).mean(-1, keepdim=True).mean(2).squeeze(-1)), 6, []),
    "indexed by None": (lambda m, x: head(m, m.a(x) * m.a(x).mean((2, 3))[:, :, None, None]), 6, []),
    "upsampling": (lambda m, x: head(m, F.interpolate(m.a(x), scale_factor=2)), 6, []),
    "quotient": (lambda m, x: head(m, m.a(x) / (m.a(x).abs() + 1)), 6, []),
    "instance norm": (lambda m, x: head(m, m.instance(m.a(x))), 6, []),
    "slopes of each channel": (lambda m, x: head(m, m.slopes(m.a(x))), 6, []),
    "one slope": (lambda m, x: head(m, m.slope(m.a(x))), 6, []),
    "padding by reflection": (lambda m, x: head(m, m.reflect(m.a(x))), 6, []),
    "input by name": (lambda m, x: m.head(input=m.reflect(input=m.a(x)).mean((2, 3))), 6, []),
}  # fmt: skip


@pytest.mark.parametrize(("run", "size", "fixed"), FREE.values(), ids=FREE)
def test_what_moves_channels(run: Callable[..., Any], size: int, fixed: list[int]) -> None:
    torch.manual_seed(0)
    layers = {
        **{"a": conv(3, 6), "b": conv(3, 4), "c": conv(3, 2), "head": nn.Linear(6, 2), "wide": nn.Linear(384, 2)},
        **{"shuffle": nn.ChannelShuffle(3), "excite": Excite(), "slopes": nn.PReLU(6), "slope": nn.PReLU()},
        **{"instance": nn.InstanceNorm2d(6, affine=True), "reflect": conv(6, 6, padding_mode="reflect")},
    }
    net = enliven(Net(run, **layers))
    with torch.no_grad():
        layers["slopes"].get_parameter("weight").uniform_(-1, 1)
    graph = channel_graph(net, torch.randn(1, 3, 8, 8))
    [group] = [group for group in graph.groups if "a" in group.members]
    assert group.size == size
    assert (list(range(size)) if group.frozen else sorted(group.fixed)) == fixed[:size]
    assert prunes_exactly(net, graph)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("split at written places", "split at written places: split (File"),
        ("written slice", "taken by written places: getitem (File"),
        ("slice with a step", "taken by written places: getitem (File"),
        ("pad of channels", "padded by a written number of channels: pad (File"),
        ("shuffle of written size", "their number is written in the code, say -1 instead: view (File"),
        ("shuffle back to a written size", "their number is written in the code, say -1 instead: reshape (File"),
        ("shuffle by another tensor's size", "their number is taken from other channels: view (File"),
    ],
)
def test_why_channels_stay_is_named_with_its_place(name: str, reason: str) -> None:
    net = Net(FREE[name][0], a=conv(3, 6), b=conv(3, 4), c=conv(3, 2), head=nn.Linear(6, 2))
    graph = channel_graph(net, torch.randn(1, 3, 8, 8))
    [group] = [group for group in graph.groups if "a" in group.members]
    reasons = [group.frozen] if group.frozen else list(group.fixed.values())
    assert all(found.startswith(reason) for found in reasons), reasons


def test_a_plan_keeps_what_is_fixed() -> None:
    net = enliven(Net(FREE["pad of channels"][0], a=conv(3, 6), c=conv(3, 2), head=nn.Linear(6, 2)))
    graph = channel_graph(net, torch.randn(1, 3, 8, 8))
    groups = (PlannedGroup("c", 6, (0, 2, 4, 5)),)
    with pytest.raises(InputError, match=r"channel 3 of 'c', which must stay: padded by a written number of channels"):
        Plan("m", "p", "all", None, 2, 1, groups, {}).removed(graph)


def test_option_a_as_it_is_mostly_written_prunes_the_middle_of_its_streams() -> None:
    """akamaster's shortcut pads by so many channels as written: what it pads stays, what it copies may go."""

    class Written(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.channels = channels

        def forward(self, x: Tensor) -> Tensor:
            ends = self.channels // 4
            return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, ends, ends), "constant", 0)

    model = get("resnet20").build(10)
    for stage, channels in (("layer2", 32), ("layer3", 64)):
        setattr(model.get_submodule(f"{stage}.0"), "shortcut", Written(channels))  # noqa: B010  # mypy: no attribute
    enliven(model)
    graph = channel_graph(model, torch.zeros(2, 3, 32, 32))
    [stream] = [group for group in graph.groups if group.joins]
    assert (stream.size, len(stream.fixed), stream.min_kept) == (64, 48, 50)
    removed = {group.name: list(range(2)) for group in graph.in_scope("inner")}
    removed[stream.name] = [index for index in range(64) if index not in stream.fixed][3:9]
    thin = slim(model, graph, removed)
    assert slim_error(model, thin, graph, removed, torch.randn(2, 3, 32, 32)) <= 1e-10
    assert thin.get_submodule("conv1").out_channels == 10


def test_a_weight_that_is_computed_from_others_is_left_alone() -> None:
    net = Net(lambda m, x: head(m, m.b(m.a(x))), a=conv(3, 6), b=conv(6, 5), head=nn.Linear(5, 2))
    parametrizations.weight_norm(net.get_submodule("b"))
    graph = channel_graph(enliven(net), torch.randn(1, 3, 8, 8))
    [group] = graph.groups
    assert group.name == "a"
    assert "read by an unknown operation: b (File" in str(group.frozen)
