"""What a method may import: feature maps against hooks set by hand, filters, and metadata that must not be blank."""

import copy
import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daar import models
from daar.api import Batch, MethodInfo, batch_norms, feature_maps, filters, outgoing, sharing
from daar.errors import InputError
from daar.models.resnet_cifar import ResNet
from daar.pruning.groups import channel_graph
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return enliven(models.get(name).build(10))


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def convs(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]


def resnet_maps(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """By the paper's equations on the model's own layers: after ReLU, at a block's end after the addition."""
    at = model.get_submodule
    maps = {"conv1": F.relu(at("bn1")(at("conv1")(x)))}
    x = maps["conv1"]
    for block in (f"layer{stage}.{number}" for stage in (1, 2, 3) for number in range(3)):
        inner = F.relu(at(f"{block}.bn1")(at(f"{block}.conv1")(x)))
        maps[f"{block}.conv1"] = inner
        x = F.relu(at(f"{block}.bn2")(at(f"{block}.conv2")(inner)) + at(f"{block}.shortcut")(x))
        maps[f"{block}.conv2"] = x
        if f"{block}.shortcut.0" in convs(model):
            maps[f"{block}.shortcut.0"] = x
    return maps


def vgg_maps(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    maps = {}
    for name, layer in model.get_submodule("features").named_children():
        x = layer(x)
        if name.startswith("relu"):
            maps[f"features.{name.replace('relu', 'conv')}"] = x.clone()
    return maps


@pytest.mark.parametrize(
    ("name", "by_hand"), [("resnet20", resnet_maps), ("resnet20_b", resnet_maps), ("vgg16_bn", vgg_maps)]
)
@pytest.mark.parametrize("batch_size", [1, 2, 5, 128])
def test_maps_are_those_of_hooks(name: str, by_hand: Callable[..., dict[str, Tensor]], batch_size: int) -> None:
    model, x = network(name).double(), images(5).double()
    found: dict[str, list[Tensor]] = {layer: [] for layer in convs(model)}
    for layer, maps in feature_maps(model, x, convs(model), batch_size):
        assert maps.shape[0] <= batch_size
        found[layer].append(maps.clone())
    with torch.no_grad():
        expected = by_hand(model, x)
    assert set(expected) == set(found)
    for layer, parts in found.items():
        assert len(parts) == -(-5 // batch_size)
        assert torch.cat(parts).shape == expected[layer].shape
        assert (torch.cat(parts) - expected[layer]).abs().max() <= 1e-12 * expected[layer].max(), layer
        assert float(torch.cat(parts).min()) == 0, "maps are taken after ReLU"


def test_one_forward_pass_serves_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("resnet20")
    calls: list[int] = []
    run = nn.Conv2d.forward

    def counted(self: nn.Conv2d, x: Tensor) -> Tensor:
        calls.append(len(x))
        return run(self, x)

    monkeypatch.setattr(nn.Conv2d, "forward", counted)
    for _ in feature_maps(model, images(5), convs(model), batch_size=3):
        pass
    assert sorted(calls) == [2] * 19 + [3] * 19


def test_only_the_layers_asked_for_are_handed_out_in_order() -> None:
    wanted = ["layer2.0.conv2", "conv1"]
    found = [layer for layer, _ in feature_maps(network("resnet20"), images(4), wanted, batch_size=2)]
    assert found == ["conv1", "layer2.0.conv2"] * 2


def state_of(model: nn.Module) -> tuple[Any, ...]:
    return (
        [module.training for module in model.modules()],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
        {name: value.clone() for name, value in model.state_dict().items()},
        [parameter.requires_grad for parameter in model.parameters()],
        torch.get_rng_state(),
        torch.is_grad_enabled(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
    )


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return same(list(one.values()), list(other.values()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other


def test_everything_is_left_as_found() -> None:
    model = network("resnet20").train()
    model.get_submodule("layer2").eval()
    before = state_of(model)
    x = images(3)
    for _ in feature_maps(model, x, convs(model), 2):
        pass
    assert same(state_of(model), before)
    assert torch.equal(x, images(3))


def test_between_two_maps_everything_is_as_found_too() -> None:
    """A method may stop half way, or take gradients of what it makes of the maps."""
    model = network("resnet20").train()
    before = state_of(model)
    stream = feature_maps(model, images(3), convs(model))
    other = feature_maps(model, images(3), convs(model))
    next(stream)
    next(other)
    assert same(state_of(model), before)
    del stream
    gc.collect()
    next(other)
    del other
    gc.collect()
    assert same(state_of(model), before)


def test_maps_of_a_network_in_training_mode_are_those_of_eval_mode() -> None:
    model = network("resnet20")
    expected = {layer: maps.clone() for layer, maps in feature_maps(model, images(3), convs(model))}
    for layer, maps in feature_maps(model.train(), images(3), convs(model)):
        assert torch.equal(maps, expected[layer])


def test_a_network_without_batch_norm_or_addition() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(5 * 16, 2))
    x = torch.randn(2, 3, 8, 8)
    found = {layer: maps.clone() for layer, maps in feature_maps(enliven(model), x, ["0", "1"])}
    with torch.no_grad():
        assert torch.equal(found["0"], model[0](x))
        assert torch.equal(found["1"], model[:3](x))


def test_filters() -> None:
    model = ResNet(1, 10).double()
    found = filters(model, "layer1.0.conv1")
    weight = model.get_parameter("layer1.0.conv1.weight")
    assert found.shape == (16, 16, 3, 3)
    assert (found.dtype, found.device.type, found.requires_grad) == (torch.float32, "cpu", False)
    assert torch.equal(found, weight.detach().float())
    before = copy.deepcopy(weight)
    _ = found.abs().sum()
    assert torch.equal(weight, before)


def test_batch_norms_are_those_behind_the_convs() -> None:
    model = network("resnet20_b").double().train()
    before = state_of(model)
    found = batch_norms(model, images(2).double(), ["layer2.0.shortcut.0", "conv1", "layer1.1.conv2"])
    expected = {"layer2.0.shortcut.0": "layer2.0.shortcut.1", "conv1": "bn1", "layer1.1.conv2": "layer1.1.bn2"}
    assert list(found) == list(expected)
    for layer, norm in found.items():
        theirs = model.get_submodule(expected[layer]).state_dict()
        for name, value in norm.state_dict().items():
            assert torch.equal(value, theirs[name].float() if value.is_floating_point() else theirs[name]), name
        assert (norm.weight.dtype, norm.weight.device.type, norm.weight.requires_grad) == (torch.float32, "cpu", False)
        norm.weight.zero_()
    assert same(state_of(model), before), "what is given out are copies"


class Branching(nn.Module):
    """Convs behind which there is a BN of their own, a shared one, two, none, and one of several readers."""

    def __init__(self) -> None:
        super().__init__()
        names = ("own", "shared", "two", "none", "skipped", "partly", "unused", "last")
        self.convs = nn.ModuleDict({name: nn.Conv2d(3, 3, 1) for name in names})
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.1)
        self.flat = nn.BatchNorm2d(3, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        convs = self.convs
        x = self.first(self.drop(convs["own"](x)))
        x = self.second(convs["shared"](self.second(convs["shared"](x))))
        x = self.first(convs["two"](self.second(convs["two"](x))))
        x = convs["partly"](self.second(convs["partly"](convs["none"](x).relu())))
        y = convs["skipped"](x.relu())
        return self.flat(convs["last"](self.first(y) + y))


def test_a_conv_called_twice_has_one_batch_norm_if_it_is_the_same() -> None:
    model = Branching()
    nn.init.normal_(model.first.weight)
    found = batch_norms(model, images(2), ["convs.own", "convs.shared"])
    assert torch.equal(found["convs.own"].weight, model.first.weight)
    assert torch.equal(found["convs.shared"].weight, model.second.weight)


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("convs.two", "first, second"),
        ("convs.none", "none"),
        ("convs.skipped", "none"),
        ("convs.partly", "none, second"),
        ("convs.unused", "no call of it"),
        ("fc", "no call of it"),
        ("convs.last", "flat, which has no scale"),
    ],
)
def test_a_conv_without_one_batch_norm_behind_it_is_named(name: str, got: str) -> None:
    message = f"layer '{name}': expected one BN .* got {got}. Choose another method"
    with pytest.raises(InputError, match=message):
        batch_norms(Branching(), images(2), ["convs.own", name])


def test_batch_norms_run_the_network_once() -> None:
    model = network("resnet20")
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    assert len(batch_norms(model, images(2), convs(model))) == 19
    assert calls == [1]


GOOD: dict[str, Any] = {"name": "x", "title": "X (Y 2000)", "citation": "y2000x", "uses": ("weights",)}


def test_metadata() -> None:
    info = MethodInfo(**GOOD)
    assert (info.policy, info.deviations, info.control) == ("uniform", (), False)
    with pytest.raises(AttributeError):
        info.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "name is blank"),
        ({"title": "  "}, "title is blank"),
        ({"citation": "\t"}, "citation is blank"),
        ({"policy": ""}, "policy is blank"),
        ({"uses": ("gradients",)}, r"uses names \['gradients'\]; it may name \['images', 'labels', 'weights'\]"),
        ({"uses": "weights"}, "it may name"),
        ({"deviations": ("one-shot", " ")}, "deviations is .* none blank"),
        ({"deviations": ("one-shot")}, "One phrase needs a comma behind it"),
    ],
)
def test_blank_or_foreign_metadata_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MethodInfo(**{**GOOD, **change})


def test_batch_is_what_methods_get() -> None:
    batch = Batch(images(2), torch.tensor([1, 2]))
    with pytest.raises(AttributeError):
        batch.images = images(1)  # type: ignore[misc]


# how strongly channels are read


def test_outgoing_sums_what_the_next_conv_multiplies_a_channel_by() -> None:
    conv = nn.Conv2d(2, 3, 1)
    reader = nn.Conv2d(3, 2, 2, bias=False)
    model = nn.Sequential(conv, nn.BatchNorm2d(3), nn.ReLU(), reader)
    with torch.no_grad():
        reader.weight[:] = torch.tensor([[[[1.0, -1], [2, 0]], [[0, 0], [0, 0]], [[3, 0], [0, 0]]]] * 2)
    assert outgoing(model, torch.zeros(1, 2, 4, 4), ["0"])["0"].tolist() == [8.0, 0.0, 6.0]


def test_outgoing_through_a_flatten_sums_over_the_places() -> None:
    linear = nn.Linear(3 * 4, 1)
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.AvgPool2d(2), nn.Flatten(), linear)
    with torch.no_grad():
        linear.weight[:] = torch.tensor([[1.0, -1, 1, -1, 0, 0, 0, 0, 2, 2, 2, 2]])
    assert outgoing(model, torch.zeros(1, 2, 4, 4), ["0"])["0"].tolist() == [4.0, 0.0, 8.0]


def test_outgoing_of_coupled_channels_is_one() -> None:
    """A grouped conv couples the channels at one position of its parts: 0 with 2, and 1 with 3."""
    grouped = nn.Conv2d(4, 6, 1, groups=2, bias=False)
    model = nn.Sequential(nn.Conv2d(2, 4, 1), grouped)
    with torch.no_grad():
        grouped.weight[:] = torch.arange(1.0, 13).view(6, 2, 1, 1)
    # filters 0–2 read channels 0 and 1 by 9 and 12, filters 3–5 channels 2 and 3 by 27 and 30
    assert outgoing(model, torch.zeros(1, 2, 4, 4), ["0"])["0"].tolist() == [36.0, 42.0, 36.0, 42.0]


def test_outgoing_of_a_stream_counts_every_reader() -> None:
    """The stem's channels are read by the first conv of both blocks; what a block adds, too."""
    model = ResNet(2, 10).eval()
    found = outgoing(model, torch.zeros(1, 3, 32, 32), ["conv1", "layer1.0.conv2", "layer1.1.conv2"])
    readers = ["layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1"]
    expected = torch.stack([filters(model, reader).abs().sum(dim=(0, 2, 3)) for reader in readers]).sum(dim=0)
    for norms in found.values():
        assert torch.allclose(norms, expected, rtol=1e-5)


def test_sharing_finds_what_writes_into_one_stream() -> None:
    """Option-A shortcuts end a stream; the convs inside of blocks stand alone."""
    model = ResNet(2, 10).eval()
    names = channel_graph(model, torch.zeros(1, 3, 32, 32)).scored_layers()
    found = sharing(model, torch.zeros(1, 3, 32, 32), names)
    streams = [family for family in found if len(family) > 1]
    assert streams == [
        ("conv1", "layer1.0.conv2", "layer1.1.conv2"),
        ("layer2.0.conv2", "layer2.1.conv2"),
        ("layer3.0.conv2", "layer3.1.conv2"),
    ]
    assert sorted(layer for family in found for layer in family) == sorted(names)
    assert sharing(model, torch.zeros(1, 3, 32, 32), ["layer1.1.conv2", "conv1"]) == [("conv1", "layer1.1.conv2")]


def test_parts_of_a_stream_are_not_taken_for_the_whole() -> None:
    """Two convs side by side, onto which a third is added: none makes all channels of another."""

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.whole = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 4, 1), nn.Conv2d(2, 7, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.a(x), self.b(x)], dim=1) + self.whole(x)

    found = sharing(Parts(), torch.zeros(1, 2, 4, 4), ["a", "b", "whole"])
    assert found == [("a",), ("b",), ("whole",)]
