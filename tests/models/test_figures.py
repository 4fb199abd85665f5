"""Sizes of the registry's networks: figures counted on the papers' reference code, closed forms, torchvision's own."""

import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

from daar import models
from daar.measure.macs import count_macs, count_params
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
# length of what the last linear layer reads
READ = {
    **{name: 64 for name in models.NETWORKS if models.get(name).module.endswith("resnet_cifar")},
    **{"vgg16_bn": 512, "densenet40": 24 + 36 * 12, "googlenet": 384 + 384 + 128 + 128, "mobilenetv2": 1280},
    **{"resnet18": 512, "resnet34": 512, "resnet50": 2048, "mobilenet_v2": 1280},
}
TORCHVISION = ["resnet18", "resnet34", "resnet50", "mobilenet_v2"]


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


def densenet_by_hand() -> tuple[int, int]:
    """Huang et al.'s three blocks of 12 layers of 12 filters; a BN for all channels in front of every conv."""
    macs, params = 3 * 24 * 9 * 32 * 32, 3 * 24 * 9
    read = 24
    for size in (32, 16, 8):
        for _ in range(12):
            macs += read * 12 * 9 * size * size
            params += read * 12 * 9 + 2 * read
            read += 12
        if size > 8:
            macs += read * read * size * size
            params += read * read + 2 * read
    return macs + read * 10, params + 2 * read + (read + 1) * 10


def googlenet_by_hand() -> tuple[int, int]:
    """The widths of Szegedy et al.'s Table 1; two 3×3 convs for each 5×5; a bias and a BN for every conv."""
    table = {
        32: [(64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)],
        16: [
            *((192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64)),
            *((112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128)),
        ],
        8: [(256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)],
    }
    macs, params, read = 3 * 192 * 9 * 32 * 32, 3 * 192 * 9 + 3 * 192, 192
    for size, modules in table.items():
        for one, into3, three, into5, five, pooled in modules:
            weights = read * (one + into3 + into5 + pooled) + 9 * (into3 * three + into5 * five + five * five)
            macs += weights * size * size
            params += weights + 3 * (one + into3 + three + into5 + 2 * five + pooled)
            read = one + three + five + pooled
    return macs + read * 10, params + (read + 1) * 10


def mobilenet_by_hand(size: int, strides: tuple[int, ...], classes: int) -> tuple[int, int]:
    """Sandler et al.'s Table 2: stem of 32, seven stages (expansion, channels, blocks), 1280; eight strides."""
    size //= strides[0]
    macs, params, read = 3 * 32 * 9 * size * size, 3 * 32 * 9 + 2 * 32, 32
    table = [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]
    for (expansion, made, blocks), stride in zip(table, strides[1:], strict=True):
        for block in range(blocks):
            wide = expansion * read
            expand = read * wide if expansion > 1 else 0
            macs += expand * size * size
            size //= stride if block == 0 else 1
            macs += (wide * 9 + wide * made) * size * size
            params += expand + wide * 9 + wide * made + 2 * (wide * (2 if expansion > 1 else 1) + made)
            read = made
    macs += 320 * 1280 * size * size + 1280 * classes
    return macs, params + 320 * 1280 + 2 * 1280 + 1281 * classes


def imagenet_resnet_by_hand(depth: int) -> tuple[int, int]:
    """He et al.'s Table 1; in a bottleneck the 3×3 conv has the stride; projections where the width changes."""
    macs, params, read = 3 * 64 * 49 * 112 * 112, 3 * 64 * 49 + 2 * 64, 64
    blocks = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[depth]
    for stage, count in enumerate(blocks):
        width, size = 64 * 2**stage, 56 // 2**stage
        made = 4 * width if depth == 50 else width
        for block in range(count):
            before = 2 * size if block == 0 and stage > 0 else size  # size of the map that the block reads
            if depth == 50:
                macs += read * width * before * before + (9 * width * width + width * made) * size * size
                params += read * width + 9 * width * width + width * made + 2 * (2 * width + made)
            else:
                macs += (read + made) * made * 9 * size * size
                params += (read + made) * made * 9 + 4 * made
            if read != made:
                macs += read * made * size * size
                params += read * made + 2 * made
            read = made
    return macs + read * 1000, params + (read + 1) * 1000


def figures(name: str) -> tuple[int, int]:
    """MACs and params with the network's usual number of classes."""
    if name in FIGURES:
        return FIGURES[name]
    if name.endswith("_b"):
        return resnet_by_hand(int(name.removeprefix("resnet").removesuffix("_b")), "B")
    if name == "mobilenetv2":
        return mobilenet_by_hand(32, (1, 1, 1, 2, 2, 1, 2, 1), 10)
    if name == "mobilenet_v2":
        return mobilenet_by_hand(224, (2, 1, 2, 2, 2, 1, 2, 1), 1000)
    return imagenet_resnet_by_hand(int(name.removeprefix("resnet")))


def test_the_closed_forms_give_the_counted_figures() -> None:
    for name, expected in FIGURES.items():
        if name.startswith("resnet"):
            assert resnet_by_hand(int(name.removeprefix("resnet")), "A") == expected
    assert densenet_by_hand() == FIGURES["densenet40"]
    assert googlenet_by_hand() == FIGURES["googlenet"]


@pytest.mark.parametrize("name", sorted(models.NETWORKS))
def test_macs_and_params(name: str) -> None:
    network = models.get(name)
    model = network.build(network.classes).eval()
    image = torch.zeros(1, *network.input_shape)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        assert model(image).shape == (1, network.classes)
    macs, params = figures(name)
    assert macs == network.macs == count_macs(model, image) == counter.get_total_flops() // 2
    assert params == count_params(model) == sum(value.numel() for value in model.parameters())


@pytest.mark.parametrize("name", sorted(models.NETWORKS))
@pytest.mark.parametrize("classes", [10, 100])
def test_other_numbers_of_classes_change_the_head_alone(name: str, classes: int) -> None:
    network = models.get(name)
    model = network.build(classes).eval()
    image = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        assert model(image).shape == (1, classes)
    more = (classes - network.classes) * READ[name]
    assert count_params(model) == figures(name)[1] + more + classes - network.classes
    if network.input_shape == (3, 32, 32):
        assert count_macs(model, image) == figures(name)[0] + more


@pytest.mark.parametrize("name", TORCHVISION)
def test_sizes_are_those_that_torchvision_publishes(name: str) -> None:
    """The meta of its weights: parameters, and 10⁹ MACs to three decimals."""
    meta = torchvision.models.get_model_weights(name).DEFAULT.meta
    macs, params = figures(name)
    assert params == meta["num_params"]
    assert round(macs / 1e9, 3) == pytest.approx(meta["_ops"])


def test_mobilenet_for_small_images_has_torchvision_s_layers() -> None:
    shapes = [
        {key: tuple(value.shape) for key, value in model.state_dict().items()}
        for model in (models.get("mobilenetv2").build(1000), torchvision.models.mobilenet_v2())
    ]
    assert shapes[0] == shapes[1]
