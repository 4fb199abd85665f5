"""Layers and norms: which weights hold channels, and what is taken together."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.spatial import distance
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from daar.pruning.groups import channel_graph
from daar.pruning.proof import slim_error
from daar.pruning.repairing import proven_graph
from daar.pruning.slim import slim
from tests.judge import Reads, apart, filters_of, masked, outputs
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruning.one_operation import IMAGES, ORDER, SAME, WIDTH, Case, head_of, moves, network, pruned_exactly
from tests.pruning.test_groups import Net, conv, head


def mixed(m: Any, name: str, x: Tensor, reader: str = "five") -> Tensor:
    """A layer that reads x and makes five channels, and their head."""
    y = getattr(m, name)(x)
    return getattr(m, reader)(y.flatten(2).mean(2))


def attended(m: Any, x: Tensor) -> Tensor:
    """Positions attend to each other; values keep their channels."""
    q = x.flatten(2).mT
    y = m.a(x).flatten(2).mT
    return m.head((torch.softmax(q @ q.mT, -1) @ y).mean(1))


def mixes(reader: str, made: str = "", width: int = 5) -> Reads:
    """What `mixed` reads."""
    return {reader: SAME["head"], {5: "five", 10: "ten"}[width]: filters_of(made or reader, range(width))}


PRUNED: dict[str, Case] = {
    "excitation with linear layers": (
        lambda m, x: head(m, m.excite(m.a(x))), 12, {**SAME, "excite.gate.0": SAME["head"]},
    ),
    "group norm, group by group": (lambda m, x: head(m, m.group(m.a(x))), 4, SAME),
    "instance norm": (lambda m, x: head(m, m.instance(m.a(x))), 12, SAME),
    "norm over space": (lambda m, x: head(m, F.layer_norm(m.a(x), (8, 8)).relu()), 12, SAME),
    "length over channels": (lambda m, x: head(m, m.unit(m.a(x))), 12, {**SAME, "unit": SAME["head"]}),
    "sum over channels": (lambda m, x: head(m, m.a(x) * m.total(m.a(x))), 12, {**SAME, "total": SAME["head"]}),
    "line": (lambda m, x: mixed(m, "line", m.a(x).flatten(2)), 12, mixes("line")),
    "volume": (lambda m, x: mixed(m, "volume", m.a(x).unsqueeze(2)), 12, mixes("volume")),
    "transposed": (lambda m, x: mixed(m, "back", m.a(x)), 12, mixes("back")),
    "transposed, in groups": (lambda m, x: mixed(m, "halved", m.a(x), "ten"), 6, mixes("halved", width=10)),
    "transposed, depthwise": (lambda m, x: head(m, m.spread(m.a(x))), 12, SAME),
    "depthwise": (lambda m, x: head(m, m.deep(m.a(x))), 12, SAME),
    "standardised weights": (lambda m, x: mixed(m, "standard", m.a(x)), 12, mixes("standard")),
    "a conv by its function": (lambda m, x: mixed(m, "function", m.a(x)), 12, mixes("function", "function.kernel")),
    "a conv as traced code calls it": (lambda m, x: mixed(m, "traced", m.a(x)), 12, mixes("traced", "traced.kernel")),
    "a product by its letters": (lambda m, x: mixed(m, "letters", m.a(x)), 12, moves(ORDER, "letters")),
    "a product by @": (
        lambda m, x: m.five(m.matrix(m.a(x).flatten(2)).mean(1)), 12, moves(ORDER, "matrix"),
    ),
    "values of attention": (attended, 12, SAME),
    "a kernel made of channels": (
        head_of(lambda x: F.conv2d(x, x[0].unsqueeze(1), padding=4, groups=x.shape[1])), 12, SAME,
    ),
    "gate of one channel": (lambda m, x: head(m, m.a(x) * m.single(x)), 12, SAME),
    "gate of one channel expanded": (lambda m, x: head(m, m.a(x) * m.single(x).expand_as(m.a(x))), 12, SAME),
    "deformed": (lambda m, x: mixed(m, "deformed", m.a(x)), 12, mixes("deformed", "deformed.kernel")),
    "deformed by groups of offsets": (lambda m, x: mixed(m, "apart", m.a(x)), 6, mixes("apart", "apart.kernel")),
    "recurrent": (lambda m, x: m.five(m.lines(m.a(x).mean(2))), 12, {"lines": SAME["head"]}),
    "a product with a vector": (
        lambda m, x: head(m, m.a(x) * m.vector(m.a(x).mean((2, 3)))[:, None, None, None]), 12,
        {**SAME, "vector": SAME["head"]},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("run", "size", "reads"), PRUNED.values(), ids=PRUNED)
def test_what_is_pruned(run: Callable[..., Any], size: int, reads: Reads) -> None:
    pruned_exactly(run, size, reads)


def test_an_lstm_in_float32_is_one_operation_and_read_alike() -> None:
    net, images = network(PRUNED["recurrent"][0]), torch.randn(IMAGES)
    graph = channel_graph(net, images, repairs=proven_graph(net, images).repairs)
    assert "mkldnn_rnn_layer" in {operation.name for operation in graph.program.operations}
    assert {group.name: group.frozen for group in graph.groups if group.name == "a"} == {"a": None}
    thin = slim(net, graph, {"a": [0, 3, 4, 11]})
    assert thin.get_submodule("lines").get_submodule("lstm").input_size == 8
    with torch.no_grad():
        assert apart([thin(images).double()], masked(net, images, {"a": [0, 3, 4, 11]}, PRUNED["recurrent"][2])) < 1e-5


def prototypes(places: int) -> nn.Module:
    """Distances of (places) positions of maps from 10 rows; of many torch computes them otherwise."""
    net = Net(lambda m, x: torch.cdist(m.a(x).flatten(2)[..., :places].mT, m.rows), a=conv(3, WIDTH))
    net.register_parameter("rows", nn.Parameter(torch.randn(10, WIDTH)))
    return enliven(net)


@pytest.mark.parametrize("places", [4, 40])
def test_distances_from_prototypes(places: int) -> None:
    net, images = prototypes(places), torch.randn(IMAGES)
    graph = proven_graph(net, images)
    [group] = graph.groups
    assert (group.size, group.frozen) == (WIDTH, None)
    removed = {"a": [0, 5, 11]}
    thin = slim(net, graph, removed)
    assert slim_error(net, thin, graph, removed, images) <= 1e-10
    left = [channel for channel in ORDER if channel not in removed["a"]]
    with torch.no_grad():
        maps = net.get_submodule("a").double()(images.double()).flatten(2)[:, left, :places].mT
    rows = net.get_parameter("rows").detach().double()[:, left]
    expected = [torch.from_numpy(distance.cdist(one.numpy(), rows.numpy())) for one in maps]
    assert apart(outputs(thin, images), [torch.stack(expected)]) <= 1e-6


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("old", [False, True], ids=["parametrized", "by hooks"])
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
def test_weights_that_are_computed_keep_what_is_taken_together_and_name_it(kind: str, old: bool) -> None:
    """The norm of a filter is over all that it reads, so `a` stays; the filters of `b` go with their lengths."""
    net = Net(lambda m, x: head(m, m.b(m.a(x))), a=conv(3, 6), b=conv(6, 8), head=nn.Linear(8, 2))
    norm = getattr(nn.utils if old else parametrizations, kind)
    norm(net.get_submodule("b"))
    enliven(net)
    images = torch.randn(IMAGES)
    with torch.no_grad():
        net(images)
    graph = proven_graph(net, images)
    frozen = {group.name: group.frozen for group in graph.groups}
    [a] = [why for name, why in frozen.items() if name == "a"]
    assert a is not None
    assert " in b" in a
    [b] = [group for group in graph.groups if group.name != "a"]
    if kind == "weight_norm":
        assert b.frozen is None
        removed = {b.name: [0, 5, 6]}
        thin = slim(net, graph, removed)
        assert slim_error(net, thin, graph, removed, images) <= 1e-10
        assert (
            apart(outputs(thin, images), masked(net, images, {"b": [0, 5, 6]}, {"head": filters_of("b", range(8))}))
            <= 1e-10
        )
    else:
        assert b.frozen is not None


def normed_sideways() -> nn.Module:
    """Lengths of a transposed conv's filters, whose dimension is the second."""
    torch.manual_seed(0)
    layers = {"a": conv(3, WIDTH), "back": nn.ConvTranspose2d(WIDTH, 5, 2, 2), "five": nn.Linear(5, 2)}
    net = Net(lambda m, x: mixed(m, "back", m.a(x)), **layers)
    parametrizations.weight_norm(layers["back"], dim=1)
    return enliven(net)


def test_lengths_over_the_other_dimension() -> None:
    net = normed_sideways()
    graph = proven_graph(net, torch.randn(IMAGES))
    assert {group.name: bool(group.frozen) for group in graph.groups} == {"a": True, "back": False}
    removed = {"back": [0, 3]}
    thin, images = slim(net, graph, removed), torch.randn(IMAGES)
    assert slim_error(net, thin, graph, removed, images) <= 1e-10
    assert apart(outputs(thin, images), masked(net, images, removed, {"five": filters_of("back", range(5))})) <= 1e-10
