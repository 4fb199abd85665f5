"""The masked network from its first masked layer on: to the bit what the whole one returns."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from daar import models
from daar.program.inputs import first, split
from daar.program.outputs import tensors
from daar.program.replay import Replay
from daar.pruning import calibration_loss
from daar.pruning.calibration_loss import CalibrationLoss
from daar.pruning.groups import ChannelGraph, channel_graph
from daar.pruning.masked import Masked
from daar.pruning.masked_suffix import BUDGET, MaskedSuffix, can_start_within
from tests.judge import drawn
from tests.networks import Cnn, cnns, enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruning.test_groups import Net, conv, head

IMAGES = torch.randn(7, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def registry(name: str) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = enliven(models.get(name).build(10)).eval()
    return model


def each_alone_and_all(graph: ChannelGraph, seed: int) -> list[dict[str, list[int]]]:
    """Nothing, channels of one group at a time, as policies ask, and of all."""
    removed = drawn(graph, seed)
    return [{}, *({name: gone} for name, gone in removed.items()), removed]


def suffix_of(model: nn.Module, graph: ChannelGraph, batches: list[Tensor], budget: int = BUDGET) -> MaskedSuffix:
    replay = Replay(model, batches[0])
    assert can_start_within(replay, graph)
    return MaskedSuffix(model, graph, batches, replay, budget)


def equal(one: Any, other: Any) -> bool:
    pairs = list(zip(tensors(one), tensors(other), strict=True))
    return bool(pairs) and all(torch.equal(a, b) for a, b in pairs)


def is_masked_to_the_bit(
    suffix: MaskedSuffix, model: nn.Module, graph: ChannelGraph, removed: dict[str, list[int]], batches: list[Any]
) -> bool:
    masked = Masked(model, graph, removed)
    return all(equal(found, masked(batch)) for found, batch in zip(suffix(removed), batches, strict=True))


BUDGETS = (0, 3_000_000, 1 << 30)
# of the others one budget each; all pairs in the long form
SHORT = {
    ("densenet40", 1 << 30),
    ("mobilenetv2", 3_000_000),
    ("vgg16_bn", 0),
    *(("resnet20", size) for size in BUDGETS),
}


@pytest.mark.parametrize(
    ("name", "budget"),
    [
        pytest.param(*pair, marks=[] if pair in SHORT else pytest.mark.slow)
        for pair in itertools.product(("resnet20", "densenet40", "mobilenetv2", "vgg16_bn"), BUDGETS)
    ],
)
def test_it_is_the_masked_network_to_the_bit(name: str, budget: int) -> None:
    model = registry(name)
    images = IMAGES[:3] if name == "densenet40" else IMAGES
    graph, batches = channel_graph(model, images[:2]), list(split(images, 4))
    suffix = suffix_of(model, graph, batches, budget)
    for removed in each_alone_and_all(graph, 0)[:: 6 if name == "densenet40" else 1]:
        assert is_masked_to_the_bit(suffix, model, graph, removed, batches)


def bytes_held(suffix: MaskedSuffix, model: nn.Module, batches: list[Any]) -> int:
    """Of all memory that the kept tensors hold, views as wholes, without what is there anyway: images and weights."""
    kept = [value for several in suffix._kept for one in several for value in one.held.values()]
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in kept}
    for value in (*model.parameters(), *model.buffers(), *tensors(batches)):
        storages.pop(value.untyped_storage().data_ptr(), None)
    return sum(storages.values())


class Normed(nn.Module):
    """It computes a weight of 8 x 8 x 3 x 3, which is as large for any number of images, before b runs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), nn.utils.parametrizations.weight_norm(conv(8, 8))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.b.weight
        return head(self, F.conv2d(self.a(x), weight) + weight.sum())


LIMITED: dict[str, tuple[Callable[[], nn.Module], int, list[int]]] = {
    "resnet20": (lambda: registry("resnet20"), 7, [7]),
    "computed weights, image by image": (lambda: enliven(Normed()).eval(), 1, [1, 1, 1, 1, 1, 1, 1]),
    # a part that is kept holds the memory of the whole, which its operation does not say
    "parts of one memory": (
        lambda: enliven(
            Net(
                lambda m, x: head(m, m.b(torch.unsafe_chunk(m.a(x), 4, 1)[0])),
                a=conv(3, 8), b=conv(2, 6), head=nn.Linear(6, 4),
            )
        ).eval(), 4, [4, 3],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITED)
def test_the_budget_bounds_the_bytes_that_are_held(name: str) -> None:
    make, size, sizes = LIMITED[name]
    torch.manual_seed(0)
    model = make()
    graph, batches = channel_graph(model, IMAGES[:2]), list(split(IMAGES, size))
    assert [len(batch) for batch in batches] == sizes
    whole = suffix_of(model, graph, batches)
    held = bytes_held(whole, model, batches)
    assert whole.kept_bytes == held > 0
    removed = drawn(graph, 0)
    for budget in (held, held - 1, held // 2, held // 3, held // 10, 0):
        suffix = suffix_of(model, graph, batches, budget)
        assert suffix.kept_bytes == bytes_held(suffix, model, batches) <= budget
        assert is_masked_to_the_bit(suffix, model, graph, removed, batches)


@settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(model=cnns(), seed=st.integers(0, 2**16), budget=st.sampled_from([0, 20_000, BUDGET]), single=st.booleans())
def test_random_networks_lose_what_they_lose_without_anything_kept(
    model: Cnn, seed: int, budget: int, single: bool
) -> None:
    """In float32 and float64, outputs and losses to the bit, and memory within the budget; batches of 2, 2 and 1."""
    dice = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(5, 3, model.size, model.size, generator=dice) for _ in range(2)]
    model = model.float() if single else model.double()
    inputs = [part.to(torch.float32 if single else torch.float64) for part in inputs]
    images = tuple(inputs) if any(step.kind == "other" for step in model.steps) else inputs[0]
    graph, batches = channel_graph(model, first(images, 2)), list(split(images, 2))
    replay = Replay(model, batches[0])
    assert can_start_within(replay, graph)
    suffix = MaskedSuffix(model, graph, batches, replay, budget)
    assert suffix.kept_bytes == bytes_held(suffix, model, batches) <= budget
    kept = CalibrationLoss(model, graph, images, batch_size=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration_loss, "can_start_within", lambda *_: False)
        whole = CalibrationLoss(model, graph, images, batch_size=2)
    for removed in each_alone_and_all(graph, seed):
        assert is_masked_to_the_bit(suffix, model, graph, removed, batches)
        assert kept(removed) == whole(removed)


NETS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    # what a later operation changes in place was read before a masked layer
    "in place on what is kept": lambda m, x: head(m, m.b(y := m.a(x)) + m.c(y.add_(1))),
    "in place through a view": lambda m, x: head(m, m.b(y := m.a(x)) + m.c((y[:, :, 1:].mul_(2), y)[1])),
    "in place on what is new": lambda m, x: head(m, m.b(F.relu_(m.a(x))) + m.c(x)[:, :6]),
}


@pytest.mark.parametrize("name", NETS)
def test_memory_that_is_changed_later_is_not_kept(name: str) -> None:
    torch.manual_seed(0)
    ins = 3 if "new" in name else 8
    model = enliven(Net(NETS[name], a=conv(3, 8), b=conv(8, 6), c=conv(ins, 6), head=nn.Linear(6, 4))).eval()
    graph, batches = channel_graph(model, IMAGES[:2]), list(split(IMAGES, 4))
    suffix = suffix_of(model, graph, batches)
    for removed in (*each_alone_and_all(graph, 0), *each_alone_and_all(graph, 1)):
        assert is_masked_to_the_bit(suffix, model, graph, removed, batches)


@pytest.mark.parametrize(
    "run",
    [
        lambda m, x: head(m, m.b(m.a(x) + torch.randn_like(m.a(x)))),
        lambda m, x: head(m, m.b(torch.cat([m.a(image[None]) for image in x]))),
        lambda m, x: head(m, m.b(m.a(x).mul(len(x)))),
    ],
)
def test_what_is_not_alike_for_any_number_of_images_runs_as_a_whole(run: Callable[[Any, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = enliven(Net(run, a=conv(3, 8), b=conv(8, 6), head=nn.Linear(6, 4))).eval()
    graph = channel_graph(model, IMAGES[:2])
    if can_start_within(Replay(model, IMAGES), graph):  # it multiplies by the number of images, as it should
        suffix = suffix_of(model, graph, [IMAGES])
        assert is_masked_to_the_bit(suffix, model, graph, {"a": [0, 3]}, [IMAGES])
    assert CalibrationLoss(model, graph, IMAGES)({"a": [0, 3]}) > 0
