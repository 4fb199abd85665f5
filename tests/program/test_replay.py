"""A recorded program runs again on any images, for batches of any size, and frees what nobody reads any more."""

import contextlib
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import daar
from daar import models
from daar.api import feature_maps
from daar.program.outputs import tensors
from daar.program.program import refs
from daar.program.replay import Replay
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.program.test_recording import Net


def shuffle(m: Any, x: Tensor) -> Tensor:
    batch, channels, height, width = x.size()
    x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch * channels, height, width)
    return m.head(x.view(batch, channels, height * width).mean(2))


def counted_in_place(m: Any, x: Tensor) -> Tensor:
    m.calls += 1
    x += m.calls * 0
    return m.head(F.relu(m.conv(x), inplace=True).mean((2, 3)))


def squared(m: Any, x: Tensor) -> Tensor:
    """The square of the batch's size among the arguments: not linear in it."""
    pairs = (x.flatten(1) @ x.flatten(1).T).reshape(len(x) ** 2)
    return m.head(m.conv(x).mean((2, 3))) + pairs.sum()


def by_image(m: Any, x: Tensor) -> Tensor:
    """More operations for more images."""
    return torch.stack([m.head(m.conv(image).mean((1, 2))) for image in x])


def counting(m: Any, x: Tensor) -> Tensor:
    """A constant that depends on the batch's size."""
    weights = torch.tensor([1.0 / (i + 1) for i in range(len(x))])
    return m.head(m.conv(x).mean((2, 3))) * weights[:, None]


NETS: dict[str, tuple[Callable[..., Any], bool]] = {
    "plain": (lambda m, x: m.head(m.conv(x).mean((2, 3))), True),
    "view with the batch's size": (shuffle, True),
    "changed in place": (counted_in_place, True),
    "split by images": (lambda m, x: m.head(torch.cat(m.conv(x).split(len(x)), 0).mean((2, 3))), True),
    "the square of the batch's size": (squared, False),
    "operations for each image": (by_image, False),
    "a constant of the batch": (counting, False),
    "two heads": (lambda m, x: {"one": m.head(m.conv(x).mean((2, 3))), "two": (m.conv(x), None)}, True),
}


def replayed(replay: Replay, x: Any, batch_size: int) -> list[Tensor]:
    """Outputs of the network, by the program alone."""
    wanted = [ref.number for ref in refs(replay.program.output)]
    found: dict[int, list[Tensor]] = {number: [] for number in wanted}
    for number, value in replay.stream(x, wanted, batch_size):
        found[number].append(value.clone())
    return [torch.cat(found[number]) for number in wanted]


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize(("run", "linear"), NETS.values(), ids=NETS)
def test_a_program_gives_what_the_network_does(run: Callable[..., Any], linear: bool, batch_size: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 4 if run is shuffle else 3, 6, 6)
    net = Net(run, conv=nn.Conv2d(3, 4, 3), head=nn.Linear(4, 2)).eval()
    net.calls = 0  # type: ignore[assignment]
    replay = Replay(net, x)
    assert replay.is_linear(len(replay.program.operations)) == linear
    state = {name: value.clone() for name, value in net.state_dict().items()}
    before = x.clone()
    found = replayed(replay, x, batch_size)
    with torch.no_grad():
        parts = [list(tensors(net(part.clone()))) for part in x.split(batch_size)]
    for one, several in zip(found, zip(*parts, strict=True), strict=True):
        assert torch.equal(one, torch.cat(several))
    assert torch.equal(x, before), "images are left as they are"
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("name", ["resnet20", "vgg16_bn", "densenet40", "googlenet", "mobilenet_v2"])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_networks_of_the_registry(name: str, batch_size: int) -> None:
    torch.manual_seed(0)
    net = enliven(models.get(name).build(10)).double()
    x = torch.randn(5, 3, 32, 32).double()
    replay = Replay(net, x[:2])
    assert replay.is_linear(len(replay.program.operations))
    [found] = replayed(replay, x, batch_size)
    with torch.no_grad():
        expected = net(x)
    assert float((found - expected).abs().max() / expected.abs().max()) <= 1e-12


def test_what_nobody_reads_any_more_is_freed_while_the_program_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(*(layer for _ in range(6) for layer in (nn.Conv2d(3, 3, 1), nn.ReLU())))
    replay = Replay(net, torch.randn(2, 3, 4, 4))
    every = [number for op in replay.program.operations for number in op.makes()]
    seen: list[Any] = []
    for _, value in replay.stream(torch.randn(2, 3, 4, 4), every, 2):
        seen.append(weakref.ref(value))
        del value
        gc.collect()
        assert sum(ref() is not None for ref in seen) <= 2, "at most what was handed out and what it was made of"
    assert len(seen) == 12


def test_what_a_view_shares_memory_with_is_freed_too() -> None:
    net = Net(lambda m, x: m.head(m.conv(x).flatten(1)[:, :4]), conv=nn.Conv2d(3, 4, 3), head=nn.Linear(4, 2))
    replay = Replay(net, torch.randn(2, 3, 6, 6))
    first = replay.program.operations[0].makes()[0]
    last = replay.program.operations[-1].makes()[0]
    kept: list[Any] = []
    for number, value in replay.stream(torch.randn(2, 3, 6, 6), [first, last], 2):
        if number == first:
            kept.append(weakref.ref(value))
        del value
    gc.collect()
    assert kept[0]() is None


def test_a_program_is_recorded_again_only_where_it_has_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    net = nn.Sequential(nn.Conv2d(3, 4, 1))
    net.register_forward_hook(lambda *call: calls.append(len(call[2])))
    x = torch.randn(7, 3, 4, 4)
    replay = Replay(net, x)
    assert calls == [2, 3]
    replayed(replay, x, 4)
    assert calls == [2, 3]
    other = Net(squared, conv=nn.Conv2d(3, 4, 1), head=nn.Linear(4, 2))
    other.register_forward_hook(lambda *call: calls.append(len(call[2])))
    replay = Replay(other, x)
    replayed(replay, x, 4)
    assert calls == [2, 3, 2, 3, 4, 3]


def test_inputs_of_several_ranks() -> None:
    net = Net(lambda m, x, y: m.head(m.conv(x).mean((2, 3)) + y), conv=nn.Conv2d(3, 4, 3), head=nn.Linear(4, 2)).eval()
    images = torch.randn(5, 3, 6, 6), torch.randn(5, 4)
    [found] = replayed(Replay(net, images), images, 2)
    with torch.no_grad():
        assert torch.allclose(found, net(*images))


def boxes(m: Any, x: Tensor) -> list[dict[str, Tensor]]:
    """A dict for each image, as detectors return."""
    maps = F.relu(m.conv(x))
    return [{"boxes": maps[i, :2].flatten(1).T, "scores": maps[i, 2].flatten()} for i in range(len(x))]


def normalised(m: Any, x: Tensor) -> Tensor:
    """Image by image in front, as detectors do."""
    return m.head(F.relu(m.conv(torch.stack([(image - 0.5) / 2 for image in x]))).mean((2, 3)))


def views(m: Any, x: Tensor) -> Tensor:
    """Several views of each object, four at once, and other operations for eight."""
    maps = F.relu(m.conv(x))
    return m.head(torch.stack([part.amax(0) for part in maps.unflatten(0, (-1, 4))]).mean((2, 3)))


@pytest.mark.parametrize("batch_size", [1, 4, 7, 16])
@pytest.mark.parametrize("run", [boxes, normalised, views])
def test_maps_of_networks_that_loop_over_images(run: Callable[..., Any], batch_size: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(8 if run is views else 7, 3, 6, 6)
    net = Net(run, conv=nn.Conv2d(3, 4, 3), head=nn.Linear(4, 2)).eval()
    read = (x - 0.5) / 2 if run is normalised else x
    with torch.no_grad():
        expected = F.relu(net.conv(read))  # type: ignore[operator]  # a module
    found = torch.cat([maps.clone() for _, maps in feature_maps(net, x, ["conv"], batch_size)])
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_nothing_runs_behind_the_last_tensor_that_is_wanted() -> None:
    net = Net(boxes, conv=nn.Conv2d(3, 4, 3))
    replay = Replay(net, torch.randn(2, 3, 6, 6))
    wanted = replay.program.operations[1].makes()
    ran: list[str] = []

    class Ran(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            ran.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    with Ran():
        assert len(list(replay.stream(torch.randn(9, 3, 6, 6), wanted, 9))) == 1
    assert [name for name in ran if name in ("convolution", "relu", "select")] == ["convolution", "relu"]


@pytest.mark.parametrize("method", ["daar", "hrank"])
def test_a_network_that_returns_a_dict_for_each_image_is_pruned(method: str) -> None:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.conv = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)

        def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
            return boxes(self, F.relu(self.first(x)))

    torch.manual_seed(0)
    pruned = daar.prune(Detector().eval(), torch.randn(9, 3, 8, 8), macs_reduction=0.3, method=method)
    assert pruned.report.slim_error <= 1e-10
    assert len(pruned.model(torch.randn(3, 3, 8, 8))) == 3


class Marked(nn.Module):
    """Marks its parts for a profiler, as `DataParallel` within a network does too."""

    def __init__(self, *, marks: bool) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 10, 3, padding=1)
        self.head = nn.DataParallel(nn.Linear(10, 5)) if marks else nn.Linear(10, 5)
        self.marks = marks

    def forward(self, x: Tensor) -> Tensor:
        with torch.profiler.record_function("body") if self.marks else contextlib.nullcontext():
            x = self.two(self.one(x).relu()).relu()
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("method", ["daar", "taylor", "hrank", "thinet"])
def test_what_marks_its_parts_for_a_profiler_is_scored_as_without(method: str) -> None:
    plans = []
    for marks in (True, False):
        torch.manual_seed(0)
        model = enliven(Marked(marks=marks)).eval()
        pruned = daar.prune(model, torch.randn(20, 3, 8, 8), method=method, policy="adaptive", macs_reduction=0.3)
        assert pruned.report.slim_error <= 1e-10
        plans.append([group.kept for group in pruned.plan.groups])
    assert plans[0] == plans[1]
