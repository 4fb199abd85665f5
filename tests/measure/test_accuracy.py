"""The count of correct images does not depend on how many run at once, in published networks on real images."""

from pathlib import Path

import pytest
import torch
from torch import nn

from daar.data import packed
from daar.data.packed import Pack
from daar.device.precision import evaluating, strict_float32
from daar.measure import accuracy
from daar.models import get
from daar.pruning.groups import graph_of
from daar.pruning.slim import slim
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CPU = torch.device("cpu")
FILES = {"resnet20": "resnet20-12fca82f.th", "resnet56": "resnet56-4bfd9763.th"}


@pytest.fixture(scope="module")
def images(real_cifar10: Path) -> Pack:
    """Test images of CIFAR-10."""
    return packed.load(real_cifar10 / "test.safetensors")


def published(name: str, real_data: Path) -> nn.Module:
    file = real_data / "checkpoints" / FILES[name]
    if not file.exists():
        pytest.skip(f"no published {name} weights here")
    state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    model = get(name).build(10)
    model.load_state_dict({key.removeprefix("module."): value for key, value in state.items()}, strict=False)
    return model.eval().to(memory_format=torch.channels_last)


def thinned(model: nn.Module) -> nn.Module:
    """Of odd widths, as plans leave them."""
    graph = graph_of(model, (3, 32, 32))
    thin = slim(model, graph, {g.name: list(range(0, g.size, 3)) for g in graph.in_scope("all")})
    return thin.to(memory_format=torch.channels_last)


def first(pack: Pack, count: int) -> Pack:
    return Pack(**{**pack.__dict__, "images": pack.images[:count], "labels": pack.labels[:count]})


def logits(model: nn.Module, pack: Pack, batch_size: int) -> torch.Tensor:
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    with strict_float32(), evaluating(model):
        parts = [(p / 255 - mean) / std for p, _ in pack.batches(0, len(pack.labels), batch_size)]
        return torch.cat([model(part.permute(0, 3, 1, 2)) for part in parts])


@pytest.mark.parametrize(
    ("name", "thin"),
    [
        ("resnet20", False),
        pytest.param("resnet20", True, marks=pytest.mark.slow),
        pytest.param("resnet56", False, marks=pytest.mark.slow),
        ("resnet56", True),
    ],
)
def test_batches_of_100_count_what_batches_of_500_count(images: Pack, real_data: Path, name: str, thin: bool) -> None:
    model = thinned(published(name, real_data)) if thin else published(name, real_data)
    some = first(images, 500)
    counted = [accuracy.evaluate(model, some, MEAN, STD, CPU, size).top1 for size in (100, 500, None)]
    assert counted[0] == counted[1] == counted[2]
    # no image is so close to another class that the bits in which two batches differ, if at all, could turn it
    one, other = (logits(model, some, size) for size in (100, 500))
    gap = one.topk(2).values
    assert (one - other).abs().max() < (gap[:, 0] - gap[:, 1]).min() / 2


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_all_test_images_are_counted_alike(images: Pack, real_data: Path, name: str) -> None:
    model = published(name, real_data)
    counts = [accuracy.evaluate(model, images, MEAN, STD, CPU, size).top1 for size in (100, 500)]
    assert counts[0] == counts[1] == pytest.approx({"resnet20": 91.73, "resnet56": 93.39}[name], abs=0.6)
