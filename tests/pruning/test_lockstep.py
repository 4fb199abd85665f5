"""What is decided by values: rounding may turn the order of equal scores, and nothing else may hide behind that."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import detection

import daar
from daar.errors import InputError
from daar.pruning.lockstep import Comparison, compared
from daar.pruning.proof import DOUBLE, slim_error
from daar.pruning.repairing import proven_graph
from daar.pruning.slim import slim
from tests.judge import drawn
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruning.test_draws import both_are_pruned
from tests.pruning.test_groups import Net, conv

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def boxes(scores: Tensor) -> Tensor:
    """Corners of a box for each place of a map (8, 8), its centre there."""
    place = torch.stack(torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij"), 2).reshape(-1, 2)
    return torch.cat([place - 1, place + 1], 1).to(scores)


def ordered(m: Any, x: Tensor) -> Tensor:
    """Of scores that differ by rounding alone, since the last conv makes nearly one value everywhere."""
    scores = (m.b(m.a(x)).relu().sum(1) * 1e-14 + 1).flatten(1)
    order = scores.argsort(1, descending=True)
    return boxes(scores)[order[:, :5]].flatten(1) * scores[:, :1]


def suppressed(m: Any, x: Tensor) -> Tensor:
    scores = (m.b(m.a(x)).relu().sum(1) * 1e-14 + 1).flatten(1)
    kept = torchvision.ops.nms(boxes(scores), scores[0], 0.1)[:4]
    return boxes(scores)[kept].flatten() * scores[0, 0]


def above(m: Any, x: Tensor) -> Tensor:
    scores = (m.b(m.a(x)).relu().sum(1) * 1e-14 + 1).flatten(1)
    return torch.where(scores > scores.mean(), scores, -scores).flatten(1)


def network(run: Callable[[Any, Tensor], Tensor]) -> nn.Module:
    torch.manual_seed(0)
    return enliven(Net(run, a=conv(3, 8), b=conv(8, 6), head=nn.Linear(6, 2)))


@pytest.mark.parametrize("run", [ordered, suppressed, above])
def test_an_order_that_rounding_turns_is_no_difference(run: Callable[[Any, Tensor], Tensor]) -> None:
    both_are_pruned(network(run), IMAGES, tolerance=1e-10)


@pytest.mark.parametrize("run", [ordered, suppressed, above])
def test_other_values_do_not_hide_behind_an_order(run: Callable[[Any, Tensor], Tensor]) -> None:
    model = network(run)
    graph = proven_graph(model, IMAGES)
    removed = drawn(graph, 0)
    thin = slim(model, graph, removed)
    with torch.no_grad():
        thin.get_submodule("b").get_parameter("weight").mul_(-1e7)
    with pytest.raises(InputError, match=r"convolution in b .* its values differ"):
        slim_error(model, thin, graph, removed, IMAGES)


def test_numbers_of_channels_are_no_order_of_values() -> None:
    """The largest of all channels has another number once some are gone: what reads it stays whole."""
    model = network(
        lambda m, x: m.b(m.a(x)).argmax(1).flatten(1).to(x.dtype) + 0 * m.head(m.b(m.a(x)).mean((2, 3)))[:, :1]
    )
    graph = proven_graph(model, IMAGES)
    assert {group.name: group.frozen is None for group in graph.groups} == {"a": True, "b": False}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ssd300_vgg16", "ssdlite320_mobilenet_v3_large"])
def test_detectors_that_choose_boxes_are_pruned_as_a_whole(name: str) -> None:
    torch.manual_seed(0)
    model = getattr(detection, name)(weights=None, weights_backbone=None).eval()
    pruned = daar.prune(model, torch.rand(2, 3, 320, 320), method="l1")
    assert pruned.report.macs_reduction >= 0.5


def test_a_conjugate_that_is_only_marked_is_no_decision() -> None:
    model = network(lambda m, x: m.head(m.b(torch.fft.fft2(m.a(x)).conj().imag).mean((2, 3))))
    graph = proven_graph(model, IMAGES)
    dense, images = DOUBLE.of(model), DOUBLE.images(IMAGES)
    removed = drawn(graph, 0)
    found = compared(dense, slim(dense, graph, removed), graph, removed, images, 1e-10)
    assert found == Comparison(None, is_decided=False)
