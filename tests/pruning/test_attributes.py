"""Numbers of channels that a network's code holds in lists, tuples, dicts and configurations."""

import argparse
import copy
import dataclasses
import json
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daar.pruning.attributes import change, integers, owner_of, value_of
from daar.pruning.groups import graph_of
from daar.pruning.plan import Plan, from_json, to_json
from daar.pruning.slim import slim
from tests.judge import filters_of
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruning.test_groups import Net, conv, head, prunes_exactly
from tests.pruning.test_proof import EVERY, B, check, proven, sandwich, whole


class Holding(nn.Module):
    """A layer whose code reads what it holds."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor], **held: Any) -> None:
        super().__init__()
        self.run = run
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


class Pair(NamedTuple):
    other: int
    width: int


@dataclasses.dataclass(frozen=True)
class Frozen:
    width: int = 8


class Plain:
    def __init__(self) -> None:
        self.width = 8


def reshaped(x: Tensor, width: int) -> Tensor:
    return x.reshape(-1, width, *x.shape[2:]) * 2


def parts(x: Tensor, *sizes: int) -> Tensor:
    return torch.cat([part * (index + 1) for index, part in enumerate(x.split(sizes, 1))], 1)


HELD: dict[str, tuple[Callable[[Any, Tensor], Tensor], dict[str, Any], set[str]]] = {
    "list, with entries that are equal": (
        lambda m, x: parts(x, *m.splits), {"splits": [4, 2, 2]}, {"splits.0", "splits.1", "splits.2"},
    ),
    "tuple, next to a number that is equal": (
        lambda m, x: parts(x, *m.splits), {"heads": 2, "splits": (4, 2, 2), "kernel": 2},
        {"splits.0", "splits.1", "splits.2"},
    ),
    "dict": (
        lambda m, x: parts(x, m.sizes["q"], m.sizes["k"], m.sizes["v"]), {"sizes": {"q": 4, "k": 2, "v": 2}},
        {"sizes.q", "sizes.k", "sizes.v"},
    ),
    "dict by numbers": (lambda m, x: reshaped(x, m.sizes[1]), {"sizes": {0: 3, 1: 8}}, {"sizes.1"}),
    "named tuple": (lambda m, x: reshaped(x, m.pair.width), {"pair": Pair(3, 8)}, {"pair.1"}),
    "shape": (lambda m, x: reshaped(x, m.shape[0]), {"shape": torch.Size([8, 3])}, {"shape.0"}),
    "namespace": (lambda m, x: reshaped(x, m.cfg.width), {"cfg": SimpleNamespace(width=8)}, {"cfg.width"}),
    "arguments": (lambda m, x: reshaped(x, m.cfg.width), {"cfg": argparse.Namespace(width=8)}, {"cfg.width"}),
    "dataclass": (lambda m, x: reshaped(x, m.cfg.width), {"cfg": Frozen()}, {"cfg.width"}),
    "object": (lambda m, x: reshaped(x, m.cfg.width), {"cfg": Plain()}, {"cfg.width"}),
    "nest": (
        lambda m, x: reshaped(x, m.cfg["stages"][1].width),
        {"cfg": {"stages": [SimpleNamespace(width=3), SimpleNamespace(width=8)]}}, {"cfg.stages.1.width"},
    ),
    "tuple of lists": (lambda m, x: reshaped(x, m.sizes[1][0]), {"sizes": ([3], [8, 5])}, {"sizes.1.0"}),
}  # fmt: skip


@pytest.mark.parametrize(("run", "held", "names"), HELD.values(), ids=HELD)
def test_where_a_number_of_channels_is_held(
    run: Callable[[Any, Tensor], Tensor], held: dict[str, Any], names: set[str]
) -> None:
    model = sandwich(Holding(run, **copy.deepcopy(held)))
    before = dict(integers(model.get_submodule("between")))
    graph = proven(model)
    assert {name for _, name in graph.repairs.attributes} == names
    assert whole(graph) == {}
    check(model, graph, {"b": EVERY, **B})
    slim(model, graph, {"a": [0, 5]})
    assert dict(integers(model.get_submodule("between"))) == before, "the dense network's own numbers change"


def test_names_survive_a_plan() -> None:
    model = sandwich(Holding(HELD["nest"][0], **copy.deepcopy(HELD["nest"][1])))
    repairs = proven(model).repairs
    plan = Plan("m", "p", "all", None, 2, 1, (), {}, repairs=repairs)
    again = from_json(json.loads(json.dumps(to_json(plan))), "plan.json")
    assert again.repairs == repairs
    thin = slim(model, graph_of(model, (3, 8, 8), repairs=again.repairs), {"a": [2, 3, 7]})
    assert value_of(thin.get_submodule("between"), "cfg.stages.1.width") == 5


class NonLocal(nn.Module):
    """Wang et al. 2018, as mostly written: one number is the width of three convs."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.inter = inner
        self.g, self.theta, self.phi = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.out = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        n = x.size(0)
        g = self.g(x).view(n, self.inter, -1).permute(0, 2, 1)
        theta = self.theta(x).view(n, self.inter, -1).permute(0, 2, 1)
        phi = self.phi(x).view(n, self.inter, -1)
        y = torch.matmul(torch.matmul(theta, phi).softmax(-1), g).permute(0, 2, 1).contiguous()
        return self.out(y.view(n, self.inter, *x.shape[2:])) + x


def test_channels_whose_number_is_one_attribute_go_only_together() -> None:
    model = sandwich(NonLocal(8, 6))
    graph = proven(model)
    assert whole(graph) == {}
    convs = {f"between.{name}" for name in ("g", "theta", "phi")}
    assert [set(group.members) for group in graph.groups if group.name in convs] == [convs]
    check(model, graph)
    # what is summed over in both products is read there, and by the last conv
    removed = {next(group.name for group in graph.groups if group.name in convs): [1, 4]}
    assert slim(model, graph, removed).get_submodule("between").inter == 4


def test_a_configuration_that_modules_share_stays_one() -> None:
    cfg, run = SimpleNamespace(width=8), HELD["namespace"][0]
    model = enliven(Net(
        lambda m, x: head(m, m.c(m.second(m.b(m.first(m.a(x)))))),
        a=conv(3, 8), first=Holding(run, cfg=cfg), b=conv(8, 8), second=Holding(run, cfg=cfg), c=conv(8, 4),
        head=nn.Linear(4, 2),
    ))  # fmt: skip
    graph = proven(model)
    assert [(group.members, group.frozen) for group in graph.groups] == [(("a", "b"), None), (("c",), None)]
    check(
        model,
        graph,
        {"b": filters_of("a", range(8)), "c": filters_of("b", range(8)), "head": filters_of("c", range(4))},
    )
    thin = slim(model, graph, {"a": [0]})
    assert thin.get_submodule("first").cfg is thin.get_submodule("second").cfg
    assert (value_of(thin.get_submodule("first"), "cfg.width"), cfg.width) == (7, 8)


def test_a_module_that_is_called_twice() -> None:
    twice = Holding(HELD["namespace"][0], cfg=SimpleNamespace(width=8))
    model = enliven(Net(
        lambda m, x: head(m, m.c(m.twice(m.b(m.twice(m.a(x)))))),
        a=conv(3, 8), b=conv(8, 8), c=conv(8, 4), twice=twice, head=nn.Linear(4, 2),
    ))  # fmt: skip
    graph = proven(model)
    assert whole(graph) == {}
    assert prunes_exactly(model, graph)


class Fixed(nn.Module):
    """A fixed kernel that each channel has a copy of, in a line with convs before and behind it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.register_buffer("kernel", torch.rand(1, 1, 3, 3).repeat(8, 1, 1, 1))
        self.ch = 8
        self.a, self.b, self.head = conv(3, 8), conv(8, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return head(self, self.b(F.conv2d(self.a(x), self.get_buffer("kernel"), groups=self.ch, padding=1)))


def test_groups_of_a_conv_by_an_attribute_in_a_line_with_others() -> None:
    model = enliven(Fixed())
    graph = proven(model)
    assert set(graph.repairs.attributes) == {("Fixed", "ch")}
    assert whole(graph) == {}
    check(model, graph, {"b": EVERY, **B})


def test_what_copies_do_not_copy_is_never_changed() -> None:
    log: Any = logging.getLogger("tests.attributes")
    log.width = 8
    model = sandwich(Holding(lambda m, x: reshaped(x, m.log.width), log=log))
    graph = proven(model)
    assert graph.repairs.attributes == {}
    assert set(whole(graph)) == {"a"}
    assert log.width == 8


def test_integers_are_found_and_changed_by_name() -> None:
    shared = [8, 3]
    module = Holding(HELD["dict"][0], width=8, flag=True, sizes=(shared, {"a.b": 8, "c": 8}), many=[8] * 2000)
    assert dict(integers(module)) == {"width": 8, "sizes.0.0": 8, "sizes.0.1": 3, "sizes.1.c": 8}
    assert owner_of(module, "sizes.0.0") == (id(shared), "0")
    assert owner_of(module, "width") == (id(module), "width")
    for name in ("width", "sizes.0.0", "sizes.1.c"):
        change(module, name, 8, 5)
        change(module, name, 8, 4)  # no longer what it was
        assert value_of(module, name) == 5
    assert shared == [5, 3]
    assert value_of(module, "sizes.7") is None


def test_a_tuple_in_a_tuple_is_replaced() -> None:
    sizes = ((8, 3), 4)
    module = Holding(HELD["dict"][0], sizes=sizes, pair=Pair(1, 8))
    change(module, "sizes.0.0", 8, 5)
    change(module, "pair.1", 8, 5)
    assert (module.sizes, sizes, module.pair) == (((5, 3), 4), ((8, 3), 4), Pair(1, 5))
    assert owner_of(module, "sizes.0.0") == (id(module), "sizes.0.0")
