"""The registry's networks: names of layers, initialisation, forward passes, published weights. Sizes: _figures.py."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daar import models
from daar.errors import InputError
from daar.measure.macs import count_macs
from daar.models import fresh
from daar.models.resnet_cifar import ResNet
from daar.models.shortcut import PaddedShortcut
from daar.pruning.groups import channel_graph
from daar.pruning.slim import slim
from tests.networks import enliven, one_thread  # noqa: F401  # it acts on this module


def test_counting_leaves_the_model_as_it_was() -> None:
    model = models.get("resnet20").build(10)
    model.layer1.eval()  # type: ignore[union-attr]
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    count_macs(model, torch.randn(1, 3, 32, 32))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_an_unknown_network_lists_those_there_are() -> None:
    with pytest.raises(InputError, match=r"unknown network 'resnet19'; there are: .*resnet20, .*vgg16_bn"):
        models.get("resnet19")


@pytest.mark.parametrize(("read", "made"), [(16, 32), (32, 64)])
def test_option_a_pads_as_the_paper_s_reference_code(read: int, made: int) -> None:
    x = torch.randn(2, read, 8, 8)
    expected = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, made // 4, made // 4), "constant", 0)
    assert torch.equal(PaddedShortcut(read, made, 2)(x), expected)


def test_an_odd_surplus_is_padded_as_evenly_as_can_be() -> None:
    x = torch.randn(1, 3, 4, 4)
    assert torch.equal(PaddedShortcut(3, 8, 1)(x), F.pad(x, (0, 0, 0, 0, 2, 3)))
    assert torch.equal(PaddedShortcut(3, 3, 2)(x), x[:, :, ::2, ::2])


def test_the_index_map_is_no_part_of_the_state_dict() -> None:
    assert not PaddedShortcut(4, 8, 2).state_dict()
    assert not [key for key in ResNet(1, 10).state_dict() if "shortcut" in key]


def test_vgg_is_named_as_in_hrank() -> None:
    """lmbxmu/HRank's state dicts: features.conv0 … conv16 with biases, features.norm<i>, classifier.linear1 …"""
    keys = set(models.get("vgg16_bn").build(10).state_dict())
    convs = [0, 1, 3, 4, 6, 7, 8, 10, 11, 12, 14, 15, 16]
    assert {f"features.conv{i}.bias" for i in convs} | {f"features.norm{i}.running_var" for i in convs} <= keys
    assert {"classifier.linear1.weight", "classifier.norm1.weight", "classifier.linear2.bias"} <= keys


NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def norms(*paths: str) -> set[str]:
    return {f"{path}.{key}" for path in paths for key in NORM}


def biased(*paths: str) -> set[str]:
    return {f"{path}.{key}" for path in paths for key in ("weight", "bias")}


def test_densenet_is_named_as_in_hrankplus() -> None:
    layers = [f"dense{block}.{layer}" for block in (1, 2, 3) for layer in range(12)] + ["trans1", "trans2"]
    expected = {"conv1.weight", *(f"{path}.conv1.weight" for path in layers)}
    expected |= norms(*(f"{path}.bn1" for path in layers), "bn") | biased("fc")
    assert set(models.get("densenet40").build(10).state_dict()) == expected


def test_googlenet_is_named_as_in_hrankplus() -> None:
    convs = {"branch1x1": (0,), "branch3x3": (0, 3), "branch5x5": (0, 3, 6), "branch_pool": (1,)}
    places = [
        (f"inception_{module}.{branch}", place)
        for module in ("a3", "b3", "a4", "b4", "c4", "d4", "e4", "a5", "b5")
        for branch, numbers in convs.items()
        for place in numbers
    ] + [("pre_layers", 0)]
    expected = biased(*(f"{path}.{place}" for path, place in places), "linear")
    expected |= norms(*(f"{path}.{place + 1}" for path, place in places))
    assert set(models.get("googlenet").build(10).state_dict()) == expected


def test_hrankplus_s_resnets_differ_by_the_classifier_s_name() -> None:
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(9)]
    theirs = {"conv1.weight", *(f"{path}.conv{i}.weight" for path in blocks for i in (1, 2))}
    theirs |= norms("bn1", *(f"{path}.bn{i}" for path in blocks for i in (1, 2))) | biased("fc")
    network = models.get("resnet56")
    for old, new in network.renamed.items():
        theirs = {new + key.removeprefix(old) if key.startswith(old) else key for key in theirs}
    assert theirs == set(network.build(10).state_dict())


class Weights:
    """Layers of a state dict, applied by path."""

    def __init__(self, model: nn.Module) -> None:
        self.state = model.state_dict()

    def conv(self, x: Tensor, path: str) -> Tensor:
        weight = self.state[f"{path}.weight"]
        return F.conv2d(x, weight, self.state.get(f"{path}.bias"), padding=weight.shape[-1] // 2)

    def norm_relu(self, x: Tensor, path: str) -> Tensor:
        scale, shift, mean, var = (self.state[f"{path}.{key}"][:, None, None] for key in NORM[:4])
        return ((x - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)

    def head(self, x: Tensor, path: str) -> Tensor:
        return x.mean((2, 3)) @ self.state[f"{path}.weight"].T + self.state[f"{path}.bias"]


def densenet(layers: Weights, x: Tensor) -> Tensor:
    """Huang et al.: what a layer makes comes behind what it reads."""
    x = layers.conv(x, "conv1")
    for block in (1, 2, 3):
        for i in range(12):
            path = f"dense{block}.{i}"
            x = torch.cat([x, layers.conv(layers.norm_relu(x, f"{path}.bn1"), f"{path}.conv1")], 1)
        if block < 3:
            x = F.avg_pool2d(layers.conv(layers.norm_relu(x, f"trans{block}.bn1"), f"trans{block}.conv1"), 2)
    return layers.head(layers.norm_relu(x, "bn"), "fc")


def googlenet(layers: Weights, x: Tensor) -> Tensor:
    """Szegedy et al.: the branches in the order 1×1, 3×3, 5×5, pool; a max-pool before 4a and 5a."""

    def run(x: Tensor, branch: str, *places: int) -> Tensor:
        for place in places:
            x = layers.norm_relu(layers.conv(x, f"{branch}.{place}"), f"{branch}.{place + 1}")
        return x

    x = run(x, "pre_layers", 0)
    for name in ("a3", "b3", "a4", "b4", "c4", "d4", "e4", "a5", "b5"):
        if name in ("a4", "a5"):
            x = F.max_pool2d(x, 3, 2, 1)
        path = f"inception_{name}"
        x = torch.cat(
            [
                run(x, f"{path}.branch1x1", 0),
                run(x, f"{path}.branch3x3", 0, 3),
                run(x, f"{path}.branch5x5", 0, 3, 6),
                run(F.max_pool2d(x, 3, 1, 1), f"{path}.branch_pool", 1),
            ],
            1,
        )
    return layers.head(x, "linear")


@pytest.mark.parametrize(("name", "forward"), [("densenet40", densenet), ("googlenet", googlenet)])
def test_a_forward_pass_written_out(name: str, forward: Callable[[Weights, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = enliven(models.get(name).build(10)).double()
    images = torch.randn(1, 3, 32, 32).double()
    with torch.no_grad():
        logits, expected = model(images), forward(Weights(model), images)
    assert float((logits - expected).abs().max() / expected.abs().max()) <= 1e-10


@pytest.mark.parametrize("name", ["resnet20", "vgg16_bn", "densenet40", "googlenet", "mobilenetv2", "resnet50"])
def test_gradients_reach_every_parameter(name: str) -> None:
    """None is lost, nor refused because a value was overwritten in place."""
    model = models.get(name).build(10).train()
    model(torch.randn(2, 3, 64, 64) if name == "resnet50" else torch.randn(2, 3, 32, 32)).logsumexp(1).sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert bool(parameter.grad.isfinite().all()), key


@pytest.mark.parametrize("name", list(models.NETWORKS))
def test_initialising_again_gives_what_building_gives(name: str) -> None:
    """The same draws under the same seed, so torchvision's networks too are initialised as torchvision does."""
    network = models.get(name)
    torch.manual_seed(3)
    model = network.build(network.classes)
    built = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        for value in model.state_dict().values():
            value.fill_(7)
    torch.manual_seed(3)
    fresh.initialise(model, name)
    for key, value in model.state_dict().items():
        assert torch.equal(value, built[key]), key


def deviation(name: str, module: nn.Conv2d | nn.Linear) -> float:
    """Of the weights that a family's source draws for a layer; He et al. 2015 unless it leaves torch's default."""
    family = models.get(name).module.rpartition(".")[2]
    fan_in, fan_out = module.weight[0].numel(), module.weight[:, 0].numel()
    if isinstance(module, nn.Linear):
        own = {"resnet_cifar": math.sqrt(2 / fan_in), "mobilenet": 0.01}
        return own.get(family, math.sqrt(1 / (3 * fan_in)))  # uniform up to 1 / √fan
    own = {"resnet_cifar": math.sqrt(2 / fan_in), "googlenet_cifar": math.sqrt(1 / (3 * fan_in))}
    return own.get(family, math.sqrt(2 / fan_out))


@pytest.mark.parametrize("name", ["resnet20", "vgg16_bn", "densenet40", "googlenet", "mobilenetv2", "resnet18"])
def test_a_slim_network_is_initialised_at_its_own_widths(name: str) -> None:
    model = models.get(name).build(100)
    graph = channel_graph(model, torch.zeros(1, 3, 32, 32))
    thin = slim(model, graph, {group.name: list(range(0, group.size, 2)) for group in graph.in_scope("all")})
    torch.manual_seed(4)
    fresh.initialise(thin, name)
    for layer, module in thin.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            spread = 5 / math.sqrt(2 * module.weight.numel())  # five standard errors
            assert float(module.weight.detach().std()) == pytest.approx(deviation(name, module), rel=spread), layer


class _Lambda(nn.Module):
    """Option A as in akamaster/pytorch_resnet_cifar10."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.planes = planes

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.planes // 4, self.planes // 4), "constant", 0)


@pytest.mark.parametrize(("name", "file"), [("resnet20", "resnet20-12fca82f.th"), ("resnet56", "resnet56-4bfd9763.th")])
def test_published_weights_load_and_give_what_the_reference_code_gives(real_data: Path, name: str, file: str) -> None:
    content = torch.load(real_data / "checkpoints" / file, map_location="cpu", weights_only=True)
    state = {key.removeprefix("module."): value for key, value in content["state_dict"].items()}
    model = models.get(name).build(10).eval()
    model.load_state_dict(state)
    reference = models.get(name).build(10).eval()
    for stage, planes in (("layer2", 32), ("layer3", 64)):
        setattr(reference.get_submodule(f"{stage}.0"), "shortcut", _Lambda(planes))  # noqa: B010  # mypy: no attribute
    reference.load_state_dict(state)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(images)
        assert torch.equal(logits, reference(images))
    assert logits.std() > 1, "trained weights give logits that differ"
