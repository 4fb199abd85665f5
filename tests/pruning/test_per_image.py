"""A conv that folds images into channels is one layer of one image's filters, pruned exactly."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import daar
from daar.api import feature_maps
from daar.pruning import weights
from daar.pruning.groups import graph_of
from daar.pruning.proof import slim_error
from daar.pruning.slim import slim
from tests import judge
from tests.networks import one_thread  # noqa: F401  # acts on this module


class Modulated(nn.Module):
    """StyleGAN2's conv: each image has filters of its own, run as one grouped conv; styled by what it reads."""

    def __init__(self, ins: int, outs: int, *, demodulate: bool) -> None:
        super().__init__()
        self.weight, self.style = nn.Parameter(torch.randn(1, outs, ins, 3, 3) / 17), nn.Linear(ins, ins)
        self.demodulate = demodulate

    def kernels(self, x: Tensor) -> Tensor:
        kernels = self.weight * (1 + self.style(x.mean((2, 3))))[:, None, :, None, None]
        if self.demodulate:
            kernels = kernels * (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        return kernels

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        kernels = self.kernels(x).reshape(-1, channels, 3, 3)
        folded = F.conv2d(x.reshape(1, n * channels, height, width), kernels, padding=1, groups=n)
        return folded.reshape(n, -1, height, width)


def generator(*, demodulate: bool) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), Modulated(16, 12, demodulate=demodulate), nn.ReLU(),
        Modulated(12, 8, demodulate=demodulate), nn.ReLU(), nn.Conv2d(8, 3, 1),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("images", [2, 5])
def test_it_is_one_layer_of_one_image_s_filters(images: int) -> None:
    net, x = generator(demodulate=False), torch.randn(images, 3, 5, 7)
    graph = graph_of(net, (3, 5, 7))
    layer = graph.layers["2"]
    assert (len(layer.inputs), len(layer.outputs), layer.groups) == (16, 12, 1)
    alive = graph.alive({})
    assert layer.macs(alive) == 16 * 12 * 9 * 5 * 7
    assert layer.macs(graph.alive({"0": [1, 2], "2": [0]})) == 14 * 11 * 9 * 5 * 7
    with torch.no_grad():
        read = F.relu(net[0](x))
        expected = F.relu(net[2](read))
        filters = net[2].kernels(read)[0]  # type: ignore[operator]  # a method
        maps = torch.cat([part.clone() for _, part in feature_maps(net, x, ["2"], 3)])
    assert torch.allclose(weights.ran_with(net, graph, x, "2"), filters)
    assert maps.shape == (images, 12, 5, 7)
    assert torch.allclose(F.relu(maps), expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_pruned_as_zeroing_what_is_read_says(seed: int) -> None:
    net, x = generator(demodulate=False), torch.randn(3, 3, 6, 6)
    graph = graph_of(net, (3, 6, 6))
    removed = judge.drawn(graph, seed)
    assert removed.keys() == {"0", "2", "4"}
    widths = {"2": ("0", 16), "4": ("2", 12), "6": ("4", 8)}
    reads = {reader: judge.filters_of(conv, range(width)) for reader, (conv, width) in widths.items()}
    expected = judge.masked(net, x, judge.filters_gone(graph, removed), reads)
    thin = slim(net, graph, removed)
    assert judge.apart(judge.outputs(thin, x), expected) <= 1e-12
    assert slim_error(net, thin, graph, removed, x) <= 1e-12


@pytest.mark.parametrize("method", ["daar", "l1", "fpgm", "hrank", "random"])
@pytest.mark.parametrize("demodulate", [False, True])
def test_every_method_prunes_it_by_any_number_of_images(demodulate: bool, method: str) -> None:
    net = generator(demodulate=demodulate)
    pruned = daar.prune(net, torch.randn(5, 3, 8, 8), method=method, macs_reduction=0.3)
    assert pruned.report.slim_error <= 1e-12
    assert 0.3 <= pruned.report.macs_reduction < 0.45
    assert pruned.model(torch.randn(7, 3, 8, 8)).shape == (7, 3, 8, 8)


class Slimmable(nn.Conv2d):
    """Runs on the first of its filters."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.width = 8

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight[: self.width, : x.shape[1]], padding=1)


class Literal(nn.Conv2d):
    """The same by a number in the code."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight[:8, :12], padding=1)


@pytest.mark.parametrize("kind", [Slimmable, Literal])
@pytest.mark.parametrize("method", ["l1", "fpgm", "hrank", "daar", "random"])
def test_a_conv_that_runs_on_a_part_of_its_weight(kind: type[nn.Conv2d], method: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), kind(16, 16, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 16, 3),
        nn.ReLU(), nn.Conv2d(16, 4, 1),
    ).eval()  # fmt: skip
    pruned = daar.prune(net, torch.randn(4, 3, 8, 8), method=method, macs_reduction=0.2)
    assert pruned.report.slim_error <= 1e-12
    kept = [line for line in str(pruned.report).splitlines() if line.startswith("2 stays whole")]
    assert len(kept) == (kind is Literal)
    assert all("relies on a number of channels" in line for line in kept)
