"""Slim ≡ masked, for the networks of the registry; `masks` makes the masked network by hand."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from daar import models
from daar.errors import InputError
from daar.models.resnet_cifar import ResNet
from daar.models.shortcut import PaddedShortcut
from daar.pruning import policies
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import ChannelGraph, channel_graph
from daar.pruning.plan import SCOPES, Plan
from daar.pruning.planning import make_plan
from daar.pruning.policy_arguments import layers_for
from daar.pruning.proof import slim_error
from daar.pruning.shapes import shapes_of
from daar.pruning.slim import slim
from tests.masks import masked_by_hand, silence
from tests.networks import (  # one_thread acts on this module
    enliven,
    one_thread,  # noqa: F401
)
from tests.pairs import in_pairs

IMAGE = torch.zeros(2, 3, 32, 32)
# the network and scope that have nothing to prune: each conv of DenseNet writes into a concatenation
ALL_JOINED = ("densenet40", "inner")


def counted(model: nn.Module, image: Any) -> int:
    """MACs of one image by torch's own counter."""
    several = image if isinstance(image, tuple) else (image,)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*(part[:1] for part in several))
    return counter.get_total_flops() // 2


def kept_first(graph: ChannelGraph, removed: dict[str, list[int]]) -> dict[str, list[int]]:
    return {
        group.name: sorted(range(group.size), key=lambda index: index in removed.get(group.name, []))
        for group in (*graph.groups, *graph.units)
    }


def kept_counts(graph: ChannelGraph, removed: dict[str, list[int]]) -> dict[str, int]:
    return {group.name: group.size - len(removed.get(group.name, [])) for group in (*graph.groups, *graph.units)}


def unchanged(model: nn.Module, before: nn.Module) -> bool:
    """Whether a model has the weights, the shapes and the modes of its copy."""
    pairs = zip(model.state_dict().values(), before.state_dict().values(), strict=True)
    modes = zip(model.modules(), before.modules(), strict=True)
    return (
        repr(model) == repr(before)
        and all(torch.equal(a, b) for a, b in pairs)
        and all(a.training == b.training for a, b in modes)
    )


def worst(one: Any, other: Any) -> float:
    """Largest difference relative to the largest of `other`, over all heads."""
    heads = [(one, other)] if isinstance(one, Tensor) else zip(one, other, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in heads)


# the registry


def target(policy: str) -> float | None:
    return None if policy.startswith("published-") else 0.55


def planned(graph: ChannelGraph, scope: str, policy: str, name: str | None = None) -> Plan:
    dice = torch.Generator().manual_seed(7)
    widths = {layer: len(graph.layers[layer].outputs) for layer in graph.scored_layers(scope)}
    scores = {layer: torch.rand(width, generator=dice) for layer, width in widths.items()}
    return make_plan(
        graph,
        scores,
        policies.get(policy, network=name),
        loss=lambda removed: float(sum(map(len, removed.values()))),
        options=layers_for(policy, lambda: shapes_of(graph)),
        method="random",
        policy_name=policy,
        scope=scope,
        target=target(policy),
    )


@pytest.fixture(scope="module")
def built() -> dict[str, tuple[nn.Module, ChannelGraph]]:
    return {}


def image_of(name: str) -> Tensor:
    """One of the network's usual size; for ImageNet's of 64×64, to be fast: their last maps are 2×2."""
    return torch.zeros(2, 3, *(min(64, side) for side in models.get(name).input_shape[1:]))


def network(built: dict[str, tuple[nn.Module, ChannelGraph]], name: str) -> tuple[nn.Module, ChannelGraph]:
    if name not in built:
        torch.manual_seed(0)
        model = enliven(models.get(name).build(10))
        built[name] = model, channel_graph(model, image_of(name))
    return built[name]


@pytest.mark.parametrize(
    ("name", "policy", "scope"),
    in_pairs(
        [
            (name, policy, scope)
            for name in sorted(models.NETWORKS)
            for policy in sorted(policies.names())
            for scope in SCOPES
            if not policies.problem(policy, name, target(policy)) and (name, scope) != ALL_JOINED
            # elsewhere scope units is scope all
            if scope != "units" or name == "vgg16_bn"
        ]
    ),
)
def test_slim_is_masked(built: dict[str, Any], name: str, policy: str, scope: str) -> None:
    model, graph = network(built, name)
    image = image_of(name)
    before = copy.deepcopy(model)
    plan = planned(graph, scope, policy, name)
    removed = plan.removed(graph)
    thin = slim(model, graph, removed)
    assert unchanged(model, before)
    assert sum(map(len, removed.values())) > 0
    macs = ClosedForm(graph, kept_first(graph, removed))
    assert plan.macs == counted(thin, image) == macs(kept_counts(graph, removed))
    images = torch.randn(2, *image.shape[1:], generator=torch.Generator().manual_seed(1))
    by_hand = masked_by_hand(name, model, removed)
    with torch.no_grad():
        assert worst(thin(images), by_hand(images)) <= 1e-4
        by_hand.double()
        assert worst(copy.deepcopy(thin).double()(images.double()), by_hand(images.double())) <= 1e-10
        assert slim_error(model, thin, graph, removed, images) <= 1e-10
        assert worst(by_hand(images.double()), model.double()(images.double())) > 1e-3, "nothing was pruned"
    model.float()


@pytest.mark.parametrize("policy", ["uniform", "global", "adaptive"])
def test_where_every_channel_is_joined_scope_inner_has_nothing_to_prune(built: dict[str, Any], policy: str) -> None:
    name, scope = ALL_JOINED
    _, graph = network(built, name)
    with pytest.raises(InputError, match=r"^no group .* Take scope 'all'"):
        planned(graph, scope, policy, name)


@pytest.mark.parametrize("name", ["resnet20", "resnet20_b", "vgg16_bn"])
def test_state_dict_has_the_planned_shapes(built: dict[str, Any], name: str) -> None:
    model, graph = network(built, name)
    removed = planned(graph, "all", "uniform").removed(graph)
    kept = kept_counts(graph, removed)
    thin = slim(model, graph, removed)
    state = {key: tuple(value.shape) for key, value in thin.state_dict().items()}
    assert list(state) == list(model.state_dict())
    if name == "vgg16_bn":
        widths = [3, *(kept[group.name] for group in graph.groups)]
        for group, read, made in zip(graph.groups, widths, widths[1:], strict=False):
            norm = group.name.replace("conv", "norm")
            assert state[f"{group.name}.weight"] == (made, read, 3, 3)
            assert state[f"{group.name}.bias"] == state[f"{norm}.weight"] == state[f"{norm}.running_var"] == (made,)
        assert state["classifier.linear1.weight"] == (512, widths[-1])
        return
    streams = {"layer1": kept["conv1"], "layer2": kept["layer2.0.conv2"], "layer3": kept["layer3.0.conv2"]}
    assert state["conv1.weight"] == (streams["layer1"], 3, 3, 3)
    assert state["linear.weight"] == (10, streams["layer3"])
    for stage, block in ((stage, block) for stage in (1, 2, 3) for block in range(3)):
        path = f"layer{stage}.{block}"
        read, made = streams[f"layer{max(1, stage - (block == 0))}"], streams[f"layer{stage}"]
        inner = kept[f"{path}.conv1"]
        assert state[f"{path}.conv1.weight"] == (inner, read, 3, 3)
        assert state[f"{path}.conv2.weight"] == (made, inner, 3, 3)
        assert state[f"{path}.bn1.running_mean"] == (inner,)
        assert state[f"{path}.bn2.bias"] == (made,)
        if name == "resnet20_b" and stage > 1 and block == 0:
            assert state[f"{path}.shortcut.0.weight"] == (made, read, 1, 1)


@pytest.mark.parametrize("name", ["resnet20", "resnet20_b", "vgg16_bn"])
def test_slimming_twice_is_slimming_once_by_the_union(built: dict[str, Any], name: str) -> None:
    model, graph = network(built, name)
    first = {group.name: [1, 4] for group in graph.in_scope("all")}
    second = {group.name: [0, 3, group.size - 5] for group in graph.in_scope("all")}
    half = slim(model, graph, first)
    twice = slim(half, channel_graph(half, IMAGE), second)
    union = {}
    for group in graph.in_scope("all"):
        left = [index for index in range(group.size) if index not in first[group.name]]
        union[group.name] = sorted([*first[group.name], *(left[index] for index in second[group.name])])
    once = slim(model, graph, union)
    for (key, one), other in zip(once.state_dict().items(), twice.state_dict().values(), strict=True):
        assert torch.equal(one, other), key
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(once(images), twice(images))


def test_removing_nothing_changes_nothing(built: dict[str, Any]) -> None:
    model, graph = network(built, "resnet20")
    assert unchanged(slim(model, graph, {}), model)


@pytest.mark.parametrize("training", [True, False])
def test_slim_keeps_class_mode_dtype_and_what_is_learnt(training: bool) -> None:
    model = ResNet(1, 10).double().train(training)
    model.conv1.weight.requires_grad_(False)
    thin = slim(model, channel_graph(model, IMAGE.double()), {"conv1": [0], "layer1.0.conv1": [1, 2]})
    assert type(thin) is ResNet
    assert {module.training for module in thin.modules()} == {training}
    assert {parameter.dtype for parameter in thin.parameters()} == {torch.float64}
    assert [name for name, p in thin.named_parameters() if not p.requires_grad] == ["conv1.weight"]
    assert isinstance(thin, ResNet)
    assert (thin.conv1.out_channels, thin.conv1.in_channels) == (15, 3)
    assert "Conv2d(15, 14" in repr(thin)
    thin.train()(torch.randn(2, 3, 32, 32).double()).sum().backward()
    assert thin.get_parameter("layer1.0.conv1.weight").grad is not None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_slim_on_a_gpu() -> None:
    model = enliven(ResNet(1, 10)).cuda()
    graph = channel_graph(model, IMAGE.cuda())
    removed = {"conv1": [0, 7], "layer2.0.conv2": [3], "layer3.0.conv1": [5]}
    thin = slim(model, graph, removed)
    assert {tensor.device.type for tensor in (*thin.parameters(), *thin.buffers())} == {"cuda"}
    assert slim_error(model, thin, graph, removed, IMAGE + 1) <= 1e-10


def test_a_wrongly_slimmed_network_is_refused() -> None:
    torch.manual_seed(0)
    model = enliven(ResNet(1, 10))
    graph = channel_graph(model, IMAGE)
    thin = slim(model, graph, {"layer2.0.conv1": [3]})
    images = torch.randn(2, 3, 32, 32)
    assert slim_error(model, thin, graph, {"layer2.0.conv1": [3]}, images) <= 1e-10
    with pytest.raises(InputError, match="differs from the masked one by"):
        slim_error(model, thin, graph, {"layer2.0.conv1": [4]}, images)
    thin.get_parameter("linear.weight").data.fill_(torch.nan)
    with pytest.raises(InputError, match="differs from the masked one by nan"):
        slim_error(model, thin, graph, {"layer2.0.conv1": [3]}, images)


class Heads(nn.Module):
    """Two heads, returned as a dict that holds a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.one = nn.Linear(6, 4)
        self.two = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> dict[str, Any]:
        x = self.pool(self.norm(self.conv(x)).relu()).flatten(1)
        return {"one": self.one(x), "rest": (self.two(x),)}


def test_of_several_heads_the_worst_counts() -> None:
    model = enliven(Heads())
    graph = channel_graph(model, IMAGE)
    thin = slim(model, graph, {"conv": [1, 5]})
    images = torch.randn(2, 3, 32, 32)
    assert slim_error(model, thin, graph, {"conv": [1, 5]}, images) <= 1e-10
    with torch.no_grad():
        thin.get_parameter("two.bias")[0] += 1
    with pytest.raises(InputError, match="differs from the masked one"):
        slim_error(model, thin, graph, {"conv": [1, 5]}, images)


def test_the_error_is_the_largest_difference_by_the_largest_logit_of_its_head() -> None:
    """By hand: one bias is moved by a known part of the largest logit, and all else agrees to 16 digits."""
    model = enliven(Heads()).double()
    graph = channel_graph(model, IMAGE.double())
    removed = {"conv": [1, 5]}
    images = torch.randn(2, 3, 32, 32).double()

    def moved(by: float) -> nn.Module:
        thin = slim(model, graph, removed).eval()
        with torch.no_grad():
            thin.get_parameter("two.bias")[0] += by * thin(images)["rest"][0].abs().max()
        return thin

    assert slim_error(model, moved(9e-11), graph, removed, images) == pytest.approx(9e-11, rel=1e-3)
    with pytest.raises(InputError, match=r"differs from the masked one by 1\.1e-10 of the largest output"):
        slim_error(model, moved(1.1e-10), graph, removed, images)


# simple chains, without any mask


def chain(*extra: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
    second = nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6), nn.ReLU()
    return enliven(nn.Sequential(*first, *extra, *second, nn.Flatten(), nn.Linear(6 * 36, 5))).double()


@pytest.mark.parametrize(
    "extra", [(), (nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU())], ids=["plain", "depthwise"]
)
def test_a_chain_equals_zeroed_batch_norms(extra: tuple[nn.Module, ...]) -> None:
    model = chain(*extra)
    image = torch.zeros(2, 3, 8, 8).double()
    removed = {"0": [0, 5], str(len(extra) + 3): [1, 2, 4]}
    thin = slim(model, channel_graph(model, image), removed)
    silent = copy.deepcopy(model)
    silence(silent[1], [0, 5])
    if extra:
        silence(silent[4], [0, 5])
    silence(silent[len(extra) + 4], [1, 2, 4])
    x = torch.randn(4, 3, 8, 8).double()
    with torch.no_grad():
        assert worst(thin(x), silent(x)) <= 1e-10
    depthwise = 6 * (9 + 1) + 2 * 6 if extra else 0
    by_hand = 6 * (27 + 1) + 2 * 6 + depthwise + 3 * (54 + 1) + 2 * 3 + 5 * (3 * 36 + 1)
    assert sum(p.numel() for p in thin.parameters()) == by_hand


def test_a_flatten_gives_each_channel_its_own_block_of_inputs() -> None:
    model = chain()
    thin = slim(model, channel_graph(model, torch.zeros(2, 3, 8, 8).double()), {"3": [2]})
    left = [unit for unit in range(6 * 36) if unit // 36 != 2]
    assert torch.equal(thin.get_parameter("7.weight"), model.get_parameter("7.weight")[:, left])


def test_no_output_of_a_padded_shortcut_is_lost_or_moved() -> None:
    """The dense shortcut copies input i to output i + 2; both sides then lose channels of their own."""
    short = PaddedShortcut(4, 8, 2)
    x = torch.randn(2, 4, 5, 5)
    short.set_source(torch.tensor([-1, 0, -1, 1, 2, -1]))
    out = short(x)
    for made, read in enumerate([None, 0, None, 1, 2, None]):
        expected = torch.zeros(2, 3, 3) if read is None else x[:, read, ::2, ::2]
        assert torch.equal(out[:, made], expected)
    short.set_source(torch.tensor([-1, 1, 2]))
    assert torch.equal(short(x)[:, 1:], x[:, 1:3, ::2, ::2])
    short.set_source(torch.tensor([-1, -1]))
    assert not short(x).any()
