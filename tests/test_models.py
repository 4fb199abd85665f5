"""The registry's networks against figures counted on the papers' reference code, and against published weights."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from daar import models
from daar.errors import InputError
from daar.measure.macs import count_macs, count_params
from daar.models.resnet_cifar import ResNet
from daar.models.shortcut import PaddedShortcut
from tests.networks import one_thread  # noqa: F401  # it acts on this module

# (MACs, params) for one 3×32×32 image and 10 classes, counted on akamaster's and lmbxmu/HRankPlus's model code
FIGURES = {
    "resnet20": (40_551_040, 269_722),
    "resnet32": (68_862_592, 464_154),
    "resnet44": (97_174_144, 658_586),
    "resnet56": (125_485_696, 853_018),
    "resnet110": (252_887_680, 1_727_962),
    "vgg16_bn": (313_463_808, 14_991_946),
    "densenet40": (282_917_328, 1_059_298),
    "googlenet": (1_521_756_160, 6_166_250),
}


def resnet_by_hand(depth: int, option: str) -> tuple[int, int]:
    """MACs and params of He et al.'s 6n + 2 layers, written out."""
    n = (depth - 2) // 6
    macs, params = 3 * 16 * 9 * 32 * 32 + 64 * 10, 3 * 16 * 9 + 2 * 16 + 64 * 10 + 10
    for read, made, size in ((16, 16, 32), (16, 32, 16), (32, 64, 8)):
        weights = read * made * 9 + (2 * n - 1) * made * made * 9
        macs += weights * size * size
        params += weights + 2 * n * 2 * made
        if option == "B" and read != made:
            macs += read * made * size * size
            params += read * made + 2 * made
    return macs, params


def figures(name: str) -> tuple[int, int]:
    if name.endswith("_b"):
        return resnet_by_hand(int(name.removeprefix("resnet").removesuffix("_b")), "B")
    return FIGURES[name]


def test_the_closed_form_gives_the_counted_figures() -> None:
    for name, expected in FIGURES.items():
        if name.startswith("resnet"):
            assert resnet_by_hand(int(name.removeprefix("resnet")), "A") == expected


@pytest.mark.parametrize("name", sorted(models.NETWORKS))
def test_macs_and_params(name: str) -> None:
    network = models.get(name)
    model = network.build(10).eval()
    image = torch.zeros(1, *network.input_shape)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        assert model(image).shape == (1, 10)
    macs, params = figures(name)
    assert macs == network.macs == count_macs(model, image) == counter.get_total_flops() // 2
    assert params == count_params(model) == sum(value.numel() for value in model.parameters())


@pytest.mark.parametrize("name", ["resnet20", "resnet56_b", "vgg16_bn"])
def test_a_hundred_classes(name: str) -> None:
    model = models.get(name).build(100).eval()
    units = 512 if name == "vgg16_bn" else 64
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 100)
    assert count_params(model) == figures(name)[1] + 90 * (units + 1)


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
