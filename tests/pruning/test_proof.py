"""The proof: what it repairs and how it says so, and what it keeps."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daar import models
from daar.errors import InputError
from daar.pruning.groups import ChannelGraph
from daar.pruning.proof import slim_error
from daar.pruning.repairing import proven_graph
from daar.pruning.repairs import Repairs
from daar.pruning.slim import slim
from tests.judge import apart, drawn, filters_gone, filters_of, masked, outputs
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruning.test_groups import Net, conv, head

IMAGES = (2, 3, 8, 8)


def proven(model: nn.Module) -> ChannelGraph:
    return proven_graph(model, torch.randn(IMAGES, generator=torch.Generator().manual_seed(3)))


def check(model: nn.Module, graph: ChannelGraph, reads: Mapping[str, Any] | None = None, must: bool = True) -> None:
    """That slim is masked for several random removals, by the product's account and by hooks."""
    images = torch.randn(IMAGES, generator=torch.Generator().manual_seed(4))
    for seed in range(6):
        removed = drawn(graph, seed)
        thin = slim(model, graph, removed)
        assert any(removed.values()) or not must
        assert slim_error(model, thin, graph, removed, images) <= 1e-10
        if reads is not None:
            assert apart(outputs(thin, images), masked(model, images, filters_gone(graph, removed), reads)) <= 1e-10


def whole(graph: ChannelGraph) -> dict[str, str]:
    return {group.name: group.frozen for group in graph.groups if group.frozen is not None}


def lively(**layers: nn.Module) -> Callable[[Callable[..., Any]], nn.Module]:
    def build(run: Callable[..., Any]) -> nn.Module:
        torch.manual_seed(0)
        return enliven(Net(run, **layers))

    return build


def sandwich(between: nn.Module, width: int = 8) -> nn.Module:
    """A conv, something, and a conv that reads it."""
    torch.manual_seed(0)
    layers = {"a": conv(3, width), "between": between, "b": conv(width, 6), "head": nn.Linear(6, 2)}
    return enliven(Net(lambda m, x: head(m, m.b(m.between(m.a(x)))), **layers))


# attributes


class Blur(nn.Module):
    """As timm's BlurPool2d: a fixed kernel, repeated for so many channels as an attribute says."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.kernel: Tensor
        self.register_buffer("kernel", torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None] / 16)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel.expand(self.channels, -1, -1, -1), padding=1, groups=self.channels)


class RepeatedBlur(Blur):
    """As timm writes it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel.repeat(self.channels, 1, 1, 1), padding=1, groups=x.shape[1])


class Split(nn.Module):
    """As SKNet's and Res2Net's: parts as wide as an attribute says."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        one, other = torch.split(x, self.width, 1)
        return torch.cat([other, one * 2], 1)


class Sizes(nn.Module):
    """As MixNet's: a list of widths."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.sizes = list(sizes)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part * (i + 1) for i, part in enumerate(torch.split(x, self.sizes, 1))], 1)


class AllOf(nn.Module):
    """As GhostNet's: a slice that takes all there is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_chs = channels

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.out_chs].reshape(-1, self.out_chs, *x.shape[2:])


EVERY = filters_of("a", range(8))
B = {"head": filters_of("b", range(6))}


@pytest.mark.parametrize("kind", [Blur, RepeatedBlur])
def test_an_attribute_that_is_a_number_of_channels_gets_its_new_value(kind: type[Blur]) -> None:
    model = sandwich(kind(8))
    graph = proven(model)
    assert set(graph.repairs.attributes) == {(kind.__name__, "channels")}
    assert whole(graph) == {}
    check(model, graph, {"b": EVERY, **B})
    thin = slim(model, graph, {"a": [1, 4, 6]})
    assert thin.get_submodule("between").channels == 5
    assert model.get_submodule("between").channels == 8


def test_a_slice_of_all_by_an_attribute() -> None:
    model = sandwich(AllOf(8))
    graph = proven(model)
    assert set(graph.repairs.attributes) == {("AllOf", "out_chs")}
    check(model, graph, {"b": EVERY, **B})


def test_halves_by_an_attribute() -> None:
    model = sandwich(Split(4))
    graph = proven(model)
    assert set(graph.repairs.attributes) == {("Split", "width")}
    assert [(group.name, group.size, group.frozen) for group in graph.groups] == [("a", 4, None), ("b", 6, None)]
    check(model, graph, {"b": [*EVERY[4:], *EVERY[:4]], **B})


def test_entries_of_a_list() -> None:
    model = sandwich(Sizes(3, 5))
    graph = proven(model)
    assert {name for kind, name in graph.repairs.attributes if kind == "Sizes"} == {"sizes.0", "sizes.1"}
    assert whole(graph) == {}
    check(model, graph, {"b": EVERY, **B})
    thin = slim(model, graph, {"a": [0, 6, 7]})
    assert thin.get_submodule("between").sizes == [2, 3]


def test_one_repair_serves_all_modules_of_a_class() -> None:
    model = enliven(nn.Sequential(
        conv(3, 8), Blur(8), nn.ReLU(), conv(8, 12), Blur(12), nn.ReLU(), conv(12, 6), Blur(6),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2),
    ))  # fmt: skip
    graph = proven(model)
    assert set(graph.repairs.attributes) == {("Blur", "channels")}
    assert not graph.repairs.kept
    check(model, graph)


class Labelled(nn.Module):
    """Has integers that are as many as there are channels, by accident, and one that is."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = 8
        self.times = 8
        self.width = 8

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, self.width, *x.shape[2:]) * self.times / self.classes


def test_an_attribute_that_is_as_many_by_accident_stays_as_it_is() -> None:
    model = sandwich(Labelled())
    graph = proven(model)
    check(model, graph, {"b": EVERY, **B})
    between = slim(model, graph, {"a": [0, 3]}).get_submodule("between")
    assert (between.width, between.times, between.classes) == (6, 8, 8)


class Factor(nn.Module):
    """A factor that is as many as there are channels: its value is seen, so it may not change."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = 8

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def test_a_factor_that_is_as_many_as_the_channels_is_no_width() -> None:
    model = sandwich(Factor())
    graph = proven(model)
    assert graph.repairs.attributes == {}
    assert whole(graph) == {}
    check(model, graph, {"b": EVERY, **B})
    assert slim(model, graph, {"a": [0]}).get_submodule("between").factor == 8


class MeanOver(nn.Module):
    """Divides by a width: without some of its channels it would compute something else."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 8

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.sum(1, keepdim=True) / self.width)


def test_a_sum_over_channels_by_a_width_stays_by_that_width() -> None:
    """The masked network divides by 8 whatever is left, and so does the slim one."""
    model = sandwich(MeanOver())
    graph = proven(model)
    check(model, graph)
    assert slim(model, graph, {"a": [0, 3]}).get_submodule("between").width == 8


# readings


def parts_last(m: Any, x: Tensor) -> Tensor:
    """Channels × parts: the parts vary fastest, where the first reading is parts × channels."""
    b, _, h, w = x.shape
    y = m.a(x)
    y = y.view(b, y.shape[1] // 4, 4, h, w).transpose(1, 2).reshape(b, -1, h, w)
    return head(m, y)


def test_another_reading_of_a_view() -> None:
    """12 channels as 3 × 4: the longer axis is taken for channels first, but 4 is what the code says."""
    model = lively(a=conv(3, 12), head=nn.Linear(12, 2))(parts_last)
    graph = proven(model)
    assert [(group.size, group.frozen) for group in graph.groups] == [(3, None)]
    assert list(graph.repairs.readings.values()) == [1]
    [source] = graph.repairs.readings
    assert source.startswith("view ")
    assert source.endswith(f"test_proof:{parts_last.__code__.co_firstlineno + 4}")
    check(model, graph, {"head": filters_of("a", [4 * i + j for j in range(4) for i in range(3)])})


def test_a_part_next_to_another_by_the_others_width() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        one, other = m.a(x), m.b(x)
        both = torch.cat([one, other], 1)
        return m.head(both[:, one.shape[1] :].mean((2, 3)))

    model = lively(a=conv(3, 6), b=conv(3, 9), head=nn.Linear(9, 2))(run)
    graph = proven(model)
    assert [(group.name, group.size, group.frozen) for group in graph.groups] == [("a", 6, None), ("b", 9, None)]
    check(model, graph, {"head": filters_of("b", range(9))})


# what stays


def test_widths_that_are_written_stay_and_are_named_and_the_rest_is_pruned() -> None:
    def written(m: Any, x: Tensor) -> Tensor:
        y = m.a(x)
        y = y.view(-1, 3, 4, 8, 8).transpose(1, 2).reshape(-1, 12, 8, 8)
        return head(m, m.c(m.b(y)))

    inner = Net(written, a=conv(3, 12), b=conv(12, 8), c=conv(8, 6), head=nn.Linear(6, 2))
    torch.manual_seed(0)
    model = enliven(Net(lambda m, x: m.inner(x), inner=inner))
    graph = proven(model)
    [(name, why)] = whole(graph).items()
    assert name == "inner.a"
    assert why.endswith(f": view in inner ({__file__}:{written.__code__.co_firstlineno + 2})")
    assert [group.name for group in graph.in_scope("all")] == ["inner.b", "inner.c"]
    check(model, graph, {"inner.c": filters_of("inner.b", range(8)), "inner.head": filters_of("inner.c", range(6))})


def test_code_that_branches_on_a_width_keeps_what_it_branches_on() -> None:
    def branching(m: Any, x: Tensor) -> Tensor:
        y = m.a(x)
        y = y * 2 if y.shape[1] == 8 else y + 1
        return head(m, m.b(y))

    model = lively(a=conv(3, 8), b=conv(8, 6), head=nn.Linear(6, 2))(branching)
    graph = proven(model)
    [(name, why)] = whole(graph).items()
    assert name == "a"
    assert "the code takes another way" in why
    assert f"({__file__}:{branching.__code__.co_firstlineno + 2})" in why
    assert [group.name for group in graph.in_scope("all")] == ["b"]
    check(model, graph, {"head": filters_of("b", range(6))})


def test_a_check_of_a_width_that_raises_keeps_it() -> None:
    class Strict(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[1] != 8:
                raise ValueError(f"8 channels, not {x.shape[1]}")
            return x.relu()

    model = sandwich(Strict())
    graph = proven(model)
    [(name, why)] = whole(graph).items()
    assert name == "a"
    assert "8 channels, not" in why
    check(model, graph, B)


@pytest.mark.parametrize(
    "taken",
    [slice(None, 1), slice(None, 2), slice(None, 7), slice(1, None), slice(-1, None), slice(-2, None), slice(3, 5),
     slice(None, None, 3), slice(7, None), slice(2, 3)],
    ids=str,
)  # fmt: skip
def test_channels_taken_by_written_numbers_stay_whichever_the_plan_removes(taken: slice) -> None:
    """One removal alone may agree by chance, as where the first channels happen to stay."""
    width = len(range(8)[taken])
    model = lively(a=conv(3, 8), b=conv(3, 5), head=nn.Linear(5 + width, 2))(
        lambda m, x: m.head(torch.cat([m.b(x), m.a(x)[:, taken]], 1).mean((2, 3)))
    )
    graph = proven(model)
    assert list(whole(graph)) == ["a"]
    check(model, graph)


def test_every_group_is_seen_cut_where_members_overlap() -> None:
    """a has the first three of eight channels, b all, and c the last four: each keeps two."""

    def run(m: Any, x: Tensor) -> Tensor:
        both = torch.cat([m.a(x), m.between(m.c(x))], 1) + m.b(x)
        return m.head(both.mean((2, 3)))

    model = lively(a=conv(3, 3), b=conv(3, 8), c=conv(3, 5), between=Factor(), head=nn.Linear(8, 2))(run)
    graph = proven(model)
    assert [(group.name, group.members) for group in graph.groups] == [("a", ("a", "c", "b"))]
    check(model, graph)


def test_random_numbers_in_eval_mode_do_not_look_like_a_difference() -> None:
    model = lively(a=conv(3, 8), head=nn.Linear(8, 2))(
        lambda m, x: head(m, m.a(x) + 0.1 * torch.randn(1, 1, 8, 8, dtype=x.dtype))
    )
    graph = proven(model)
    assert whole(graph) == {}


def test_networks_of_the_registry_need_no_repair() -> None:
    for name in ("resnet20", "resnet20_b", "vgg16_bn", "googlenet", "densenet40", "mobilenet_v2"):
        graph = proven_graph(enliven(models.get(name).build(10)), torch.randn(2, 3, 32, 32))
        assert graph.repairs == Repairs(), name
        assert whole(graph) == {}, name


def test_zeros_of_a_network_that_runs_otherwise_for_one_image() -> None:
    """Where all outputs are zero every operation is compared: with those that ran on these images."""

    def run(model: Any, x: Tensor) -> Tensor:
        x = model.a(x)
        x = x.abs().sqrt() if len(x) == 1 else x
        return 0 * head(model, model.b(x))

    model = lively(a=conv(3, 8), b=conv(8, 6), head=nn.Linear(6, 2))(run)
    graph, image = proven(model), torch.randn(1, 3, 8, 8)
    removed = drawn(graph, 0)
    thin = slim(model, graph, removed)
    assert slim_error(model, thin, graph, removed, image) == 0.0
    with torch.no_grad():
        thin.get_submodule("b").get_parameter("weight")[0] += 1
    with pytest.raises(InputError, match=r"From convolution in b .* on its values differ"):
        slim_error(model, thin, graph, removed, image)
