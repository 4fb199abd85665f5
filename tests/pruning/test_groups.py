"""Which channels go together, in the networks we ship and in small ones with one construct each."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from daar import models
from daar.errors import InputError
from daar.methods import discovery
from daar.models.shortcut import PaddedShortcut
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import ChannelGraph, channel_graph
from daar.pruning.plan import Plan, PlannedGroup
from daar.pruning.planning import uniform_plan
from daar.pruning.proof import slim_error
from daar.pruning.repairing import proven_graph
from daar.pruning.scoring import Batch, score
from daar.pruning.slim import slim
from tests.judge import apart, drawn, outputs
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module


def graph_of(name: str) -> ChannelGraph:
    return channel_graph(models.get(name).build(10), torch.zeros(2, 3, 32, 32))


def members(graph: ChannelGraph) -> dict[str, tuple[str, ...]]:
    return {group.name: group.members for group in graph.groups}


RESNET20 = {
    "conv1": ("conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2"),
    **{f"layer1.{block}.conv1": (f"layer1.{block}.conv1",) for block in (0, 1, 2)},
    "layer2.0.conv1": ("layer2.0.conv1",),
    "layer2.0.conv2": ("layer2.0.conv2", "layer2.1.conv2", "layer2.2.conv2"),
    **{f"layer2.{block}.conv1": (f"layer2.{block}.conv1",) for block in (1, 2)},
    "layer3.0.conv1": ("layer3.0.conv1",),
    "layer3.0.conv2": ("layer3.0.conv2", "layer3.1.conv2", "layer3.2.conv2"),
    **{f"layer3.{block}.conv1": (f"layer3.{block}.conv1",) for block in (1, 2)},
}
STREAMS = ["conv1", "layer2.0.conv2", "layer3.0.conv2"]


def test_resnet20() -> None:
    graph = graph_of("resnet20")
    assert list(members(graph).items()) == list(RESNET20.items())
    sizes = {"conv1": 16, "layer1": 16, "layer2": 32, "layer3": 64}
    assert {group.name: group.size for group in graph.groups} == {n: sizes[n.split(".")[0]] for n in RESNET20}
    assert [group.frozen for group in graph.groups] == [None] * 12
    assert [group.name for group in graph.groups if group.joins] == STREAMS
    assert {group.name: group.min_kept for group in graph.groups} == {
        name: {16: 2, 32: 2, 64: 4}[sizes[name.split(".")[0]]] for name in RESNET20
    }
    for group in graph.groups:
        for positions in group.positions.values():
            assert positions.tolist() == list(range(group.size))


def test_resnet20_with_projections() -> None:
    streams = {
        f"layer{stage}.0.conv2": (
            *(f"layer{stage}.0.conv2", f"layer{stage}.0.shortcut.0"),
            *(f"layer{stage}.1.conv2", f"layer{stage}.2.conv2"),
        )
        for stage in (2, 3)
    }
    assert members(graph_of("resnet20_b")) == {**RESNET20, **streams}


def test_vgg16() -> None:
    graph = graph_of("vgg16_bn")
    convs = [f"features.conv{i}" for i in (0, 1, 3, 4, 6, 7, 8, 10, 11, 12, 14, 15, 16)]
    assert members(graph) == {conv: (conv,) for conv in convs}
    assert [group.size for group in graph.groups] == [64, 64, 128, 128, 256, 256, 256] + [512] * 6
    assert [group.min_kept for group in graph.groups] == [4, 4, 7, 7, 13, 13, 13] + [26] * 6
    assert graph.in_scope("inner") == graph.in_scope("all") == graph.groups


def test_scopes_and_scored_layers() -> None:
    graph = graph_of("resnet20")
    assert graph.in_scope("all") == graph.groups
    inner = [group.name for group in graph.in_scope("inner")]
    assert inner == [name for name in RESNET20 if name not in STREAMS]
    convs = [name for name, module in models.get("resnet20").build(10).named_modules() if isinstance(module, nn.Conv2d)]
    assert sorted(graph.scored_layers()) == sorted(convs)


# small networks: each a forward over the same layers


class Net(nn.Module):
    """Layers by name, and a forward given as a function of the network and the image."""

    def __init__(self, run: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def conv(read: int, made: int, kernel: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(read, made, kernel, padding=kernel // 2, **options)


def small(run: Callable[..., Any], **layers: nn.Module) -> tuple[nn.Module, ChannelGraph]:
    torch.manual_seed(0)
    model = enliven(Net(run, **layers))
    return model, channel_graph(model, torch.randn(2, 3, 8, 8))


def prunes_exactly(model: nn.Module, graph: ChannelGraph, *images: Tensor) -> bool:
    """Whether random channels can go, with another output than before."""
    x: Any = images[0] if len(images) == 1 else images or torch.randn(2, 3, 8, 8)
    for seed in range(3):
        removed = drawn(graph, seed)
        thin = slim(model, graph, removed)
        assert any(removed.values()), "nothing can be removed"
        assert apart(outputs(thin, x), outputs(model, x)) > 1e-6, "what was removed made no difference"
        if slim_error(model, thin, graph, removed, x) > 1e-10:
            return False
    return True


def test_input_and_logits_stay_whole() -> None:
    _, graph = small(lambda m, x: m.b(m.a(x)).mean((2, 3)), a=conv(3, 6), b=conv(6, 4))
    assert {group.name: group.frozen for group in graph.groups} == {"a": None, "b": "network output"}
    assert graph.scored_layers() == ["a"]
    _, graph = small(lambda m, x: m.b(m.a(x) + x).mean((2, 3)), a=conv(3, 3), b=conv(3, 4))
    assert {group.name: group.frozen for group in graph.groups} == {"a": "network input", "b": "network output"}
    assert graph.in_scope("all") == ()
    # added to images, and returned
    _, graph = small(lambda m, x: x + m.b(m.a(x)), a=conv(3, 6), b=conv(6, 3))
    assert {group.name: group.frozen for group in graph.groups} == {"a": None, "b": "network output"}


def head(m: nn.Module, x: Tensor) -> Tensor:
    return m.head(F.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[operator]


def test_depthwise_filters_belong_to_the_channels_they_read() -> None:
    model, graph = small(
        lambda m, x: head(m, m.deep(m.a(x))), a=conv(3, 6), deep=conv(6, 12, groups=6), head=nn.Linear(12, 2)
    )
    assert members(graph) == {"a": ("a",)}
    assert graph.groups[0].size == 6
    assert graph.layers["deep"].outputs.tolist() == graph.layers["deep"].inputs.repeat(2).tolist()
    assert prunes_exactly(model, graph)


def test_a_conv_of_grey_images_is_not_depthwise() -> None:
    torch.manual_seed(0)
    model = enliven(Net(lambda m, x: head(m, m.a(x)), a=conv(1, 6), head=nn.Linear(6, 2)))
    graph = channel_graph(model, torch.zeros(2, 1, 8, 8))
    assert [(group.name, group.size, group.frozen) for group in graph.groups] == [("a", 6, None)]
    removed = {"a": [0, 2, 5]}
    assert slim_error(model, slim(model, graph, removed), graph, removed, torch.randn(2, 1, 8, 8)) <= 1e-10


def test_groups_of_a_conv_keep_the_same_positions() -> None:
    model, graph = small(lambda m, x: head(m, m.b(m.a(x))), a=conv(3, 6), b=conv(6, 8, groups=2), head=nn.Linear(8, 2))
    assert {group.name: group.size for group in graph.groups} == {"a": 3, "b": 4}
    assert graph.groups[0].positions["a"].tolist() == [0, 1, 2, 0, 1, 2]
    assert graph.groups[1].positions["b"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert prunes_exactly(model, graph)


def test_concatenation_puts_channels_side_by_side() -> None:
    model, graph = small(
        lambda m, x: head(m, m.c(torch.cat([m.a(x), m.b(x)], 1))),
        **{"a": conv(3, 4), "b": conv(3, 5), "c": conv(9, 6), "head": nn.Linear(6, 2)},
    )
    assert members(graph) == {"a": ("a",), "b": ("b",), "c": ("c",)}
    assert [group.name for group in graph.groups if group.joins] == ["a", "b"]
    assert graph.layers["c"].inputs.tolist() == [*graph.groups[0].channels, *graph.groups[1].channels]
    assert prunes_exactly(model, graph)


def test_an_addition_onto_a_concatenation_is_one_group_of_which_each_conv_keeps_its_least() -> None:
    model, graph = small(
        lambda m, x: head(m, torch.cat([m.a(x), m.b(x)], 1) + m.c(x)),
        **{"a": conv(3, 4), "b": conv(3, 5), "c": conv(3, 9), "head": nn.Linear(9, 2)},
    )
    [group] = graph.groups
    assert (group.name, group.members, group.size) == ("a", ("a", "b", "c"), 9)
    assert {name: positions.tolist() for name, positions in group.positions.items()} == {
        "a": [0, 1, 2, 3],
        "b": [4, 5, 6, 7, 8],
        "c": list(range(9)),
    }
    assert group.min_kept == 4
    removed = {"a": [0, 1, 6, 7, 8]}
    thin = slim(model, graph, removed)
    assert slim_error(model, thin, graph, removed, torch.randn(2, 3, 8, 8)) <= 1e-10


def test_members_that_share_channels_only_through_others_are_one_group() -> None:
    """c runs before d, and makes a's channels and d's; a and d have none in common."""

    def run(m: Any, x: Tensor) -> Tensor:
        first, both = m.a(x), m.c(x)
        return head(m, torch.cat([first, m.d(x)], 1) + both)

    model, graph = small(run, a=conv(3, 4), c=conv(3, 9), d=conv(3, 5), head=nn.Linear(9, 2))
    assert members(graph) == {"a": ("a", "c", "d")}
    removed = {"a": [1, 4, 6, 7]}
    thin = slim(model, graph, removed)
    assert slim_error(model, thin, graph, removed, torch.randn(2, 3, 8, 8)) <= 1e-10


def test_groups_that_a_later_conv_joins_become_one() -> None:
    """d joins b and c, e joins a to them, and f, which comes last, has channels of c alone."""

    def run(m: Any, x: Tensor) -> Tensor:
        a, b, c = m.a(x), m.b(x), m.c(x)
        sums = torch.cat([b, c], 1) + m.d(x), torch.cat([a, b], 1) + m.e(x), c + m.f(x)
        return head(m, torch.cat(sums, 1))

    widths = {"a": 3, "b": 4, "c": 5, "d": 9, "e": 7, "f": 5}
    convs = {name: conv(3, width) for name, width in widths.items()}
    model, graph = small(run, **convs, head=nn.Linear(21, 2))
    assert members(graph) == {"a": tuple(widths)}
    removed = {"a": [0, 3, 4, 8, 9]}
    thin = slim(model, graph, removed)
    assert [thin.get_submodule(name).out_channels for name in widths] == [2, 2, 3, 5, 4, 3]
    assert slim_error(model, thin, graph, removed, torch.randn(2, 3, 8, 8)) <= 1e-10


class Parts(nn.Module):
    """Of one conv's channels a depthwise conv reads some, another conv others; the sizes are in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = [12, 8, 4]
        self.all = nn.Conv2d(3, 24, 3)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.own, self.other = nn.Conv2d(12, 6, 1), nn.Conv2d(8, 6, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        one, two, three = torch.split(self.all(images), self.sizes, 1)
        gate = three.sigmoid().flatten(2).mean(2)
        out = self.own(one.relu()) + self.other(self.depthwise(two.relu()))
        return self.head(out.relu().mean((2, 3))) * gate[:, :1]


@pytest.mark.parametrize("weak", [slice(0, 12), slice(12, 20), slice(20, 24)])
def test_of_each_part_that_is_read_apart_some_channels_stay(weak: slice) -> None:
    """However little a part's filters are worth: a conv of no channels cannot run."""
    torch.manual_seed(0)
    model, images = enliven(Parts()), torch.randn(4, 3, 12, 12)
    with torch.no_grad():
        model.all.weight[weak] *= 1e-6
    graph = proven_graph(model, images)
    method = discovery.get("l1")
    scores = score(model, Batch(images, torch.zeros(4, dtype=torch.int64)), graph, method, {}, 0)
    with pytest.raises(InputError, match="closest") as refused:
        uniform_plan(graph, scores, "all", 0.99)
    said = re.search(r"closest macs_reduction is (0\.\d+)", str(refused.value))
    assert said is not None
    plan = uniform_plan(graph, scores, "all", float(said[1]))
    removed = plan.removed(graph)
    slimmed = slim(model, graph, removed)
    widths = {name: tuple(weight.shape) for name, weight in slimmed.named_parameters()}
    assert widths["depthwise.weight"][0] >= 2
    assert widths["own.weight"][1] >= 2
    assert slim_error(model, slimmed, graph, removed, images) < 1e-12
    assert sum(len(indices) for indices in removed.values()) > 10


def test_a_plan_of_others_that_leaves_nothing_of_a_part_is_refused() -> None:
    torch.manual_seed(0)
    model, images = enliven(Parts()), torch.randn(4, 3, 12, 12)
    graph = proven_graph(model, images)
    (group,) = [group for group in graph.groups if group.name == "all"]
    kept = tuple(index for index in range(24) if not 12 <= index < 20)
    others = tuple(PlannedGroup(g.name, g.size, tuple(range(g.size))) for g in graph.in_scope("all") if g != group)
    planned = (PlannedGroup("all", 24, kept), *others)
    plan = Plan("l1", "uniform", "all", None, 1, 1, planned, {}, repairs=graph.repairs)
    with pytest.raises(InputError, match=r"none of the channels 12 to 19 of 'all'"):
        plan.removed(graph)


def test_flatten_repeats_a_channel_for_each_pixel() -> None:
    model, graph = small(lambda m, x: m.out(torch.flatten(m.a(x), 1)), a=conv(3, 4), out=nn.Linear(4 * 64, 2))
    assert graph.layers["out"].inputs.tolist() == [channel for channel in graph.groups[0].channels for _ in range(64)]
    assert prunes_exactly(model, graph)


def test_squeeze_and_excitation_goes_with_what_it_scales() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.a(x)
        return head(m, x * torch.sigmoid(m.up(F.relu(m.down(F.adaptive_avg_pool2d(x, 1))))))

    model, graph = small(run, a=conv(3, 6), down=conv(6, 3, 1), up=conv(3, 6, 1), head=nn.Linear(6, 2))
    assert members(graph) == {"a": ("a", "up"), "down": ("down",)}
    assert not any(group.joins for group in graph.groups)
    assert prunes_exactly(model, graph)


def test_a_gate_of_one_channel_is_broadcast_and_stays() -> None:
    model, graph = small(lambda m, x: head(m, m.a(x) * m.gate(x)), a=conv(3, 6), gate=conv(3, 1), head=nn.Linear(6, 2))
    frozen = {group.name: group.frozen for group in graph.groups}
    assert frozen["a"] is None
    assert str(frozen["gate"]).startswith(f"a layer's only channel: convolution in gate ({__file__}:")
    assert prunes_exactly(model, graph)


def test_a_layer_used_twice_reads_and_makes_the_same_channels() -> None:
    model, graph = small(
        lambda m, x: head(m, m.twice(m.a(x)) + m.twice(m.b(x))),
        **{"a": conv(3, 6), "b": conv(3, 6), "twice": conv(6, 5), "head": nn.Linear(5, 2)},
    )
    assert members(graph) == {"a": ("a", "b"), "twice": ("twice",)}
    assert graph.layers["twice"].unit_macs == 2 * 64 * 9
    assert prunes_exactly(model, graph)


def test_several_heads() -> None:
    model, graph = small(
        lambda m, x: (m.one(m.a(x).mean((2, 3))), {"two": m.two(m.b(m.a(x)).mean((2, 3)))}),
        **{"a": conv(3, 6), "b": conv(6, 5), "one": nn.Linear(6, 2), "two": nn.Linear(5, 3)},
    )
    assert {group.name: group.frozen for group in graph.groups} == {"a": None, "b": None}
    assert prunes_exactly(model, graph)


def test_streams_on_both_sides_of_a_padded_shortcut_are_pruned_apart() -> None:
    model, graph = small(
        lambda m, x: head(m, m.b(m.a(x)) + m.short(m.a(x))),
        **{"a": conv(3, 4), "b": conv(4, 8), "short": PaddedShortcut(4, 8, 1), "head": nn.Linear(8, 2)},
    )
    assert members(graph) == {"a": ("a",), "b": ("b",)}
    removed = {"a": [1], "b": [0, 5]}  # the shortcut copies 0..3 to 2..5, so what 3 reads is gone
    thin = slim(model, graph, removed)
    assert thin.get_buffer("short.source").tolist() == [-1, 0, -1, 1, -1, -1]
    assert slim_error(model, thin, graph, removed, torch.randn(2, 3, 8, 8)) <= 1e-10


def test_a_network_that_branches_on_values_is_followed_the_way_that_it_goes() -> None:
    layers = {"a": conv(3, 6), "part": Net(lambda _, x: x if x.sum() > 1e9 else -x), "head": nn.Linear(6, 2)}
    model, graph = small(lambda m, x: head(m, m.part(m.a(x))), **layers)
    assert {group.name: group.frozen for group in graph.groups} == {"a": None}
    assert prunes_exactly(model, graph)


def test_a_network_that_fails_names_the_module_and_what_it_raised() -> None:
    broken = Net(lambda _, x: x.view(7, 11))
    with pytest.raises(InputError, match=r"^Net fails in 'part': shape '\[7, 11\]' is invalid") as caught:
        small(lambda m, x: m.part(m.a(x)), a=conv(3, 4), part=broken)
    assert "\n" not in str(caught.value)


def test_products_of_activations_are_rows_of_their_own_and_count() -> None:
    """By hand: a, deep and pairs, 4 × 8 rows through a linear layer of 8 × 8, the product of (4, 64) with its
    transpose, and the head on its four rows."""

    def run(m: Any, x: Tensor) -> Tensor:
        flat = m.rows(m.pairs(m.deep(m.a(x)))).flatten(2)
        return m.head((flat @ flat.mT).mean(2))

    convs = {"a": conv(3, 6), "deep": conv(6, 6, groups=6), "pairs": conv(6, 4, groups=2)}
    model, graph = small(run, **convs, rows=nn.Linear(8, 8), head=nn.Linear(4, 2))
    products = {name: layer.macs(graph.alive({})) for name, layer in graph.layers.items() if layer.kind == "product"}
    assert list(products.values()) == [4 * 8 * 8 * 8, 4 * 64 * 4]
    assert ClosedForm(graph)({}) == 64 * 9 * (3 * 6 + 6 + 3 * 4) + sum(products.values()) + 4 * 2
    assert ClosedForm(graph)({}) == sum(layer.macs(graph.alive({})) for layer in graph.layers.values())
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(1, 3, 8, 8))
    assert counter.get_total_flops() == 2 * ClosedForm(graph)({})
    assert {group.name: bool(group.frozen) for group in graph.groups} == {"a": False, "pairs": True}


def test_finding_groups_leaves_the_model_as_it_was() -> None:
    model = models.get("resnet20").build(10).train()
    model.get_submodule("layer2").eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    channel_graph(model, torch.randn(1, 3, 32, 32))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
