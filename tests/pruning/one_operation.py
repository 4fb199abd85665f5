"""Networks of one operation behind a conv `a` of 12 filters, and what is checked of each."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from daar.pruning.groups import ChannelGraph
from daar.pruning.proof import precision_of, slim_error
from daar.pruning.repairing import proven_graph
from daar.pruning.slim import slim
from tests.judge import Reads, apart, drawn, filters_gone, filters_of, masked, outputs
from tests.networks import enliven
from tests.pruning.test_groups import Net, conv, head

# what is done with the 12 channels of `a`; the size of their group; where they lie in front of what reads them
Case = tuple[Callable[..., Any], int, Reads]

WIDTH = 12
IMAGES = (2, 3, 8, 8)


class Excite(nn.Module):
    """Squeeze and excitation as mostly written: linear layers, sizes of the input, expand_as."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(WIDTH, 3), nn.ReLU(), nn.Linear(3, WIDTH), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        return x * self.gate(x.mean((2, 3)).view(b, c)).view(b, c, 1, 1).expand_as(x)


class Own(nn.Module):
    """A layer with a parameter of its own and a forward of its own."""

    def __init__(self, run: Callable[[Tensor, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.run = run
        self.kernel = nn.Parameter(torch.randn(shape) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, self.kernel)


class Lines(nn.Module):
    """An LSTM over the last dimension of (N, C, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(WIDTH, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.lstm(x.mT)[0]
        return hidden.mean(1)


def moves(order: Iterable[int], reader: str = "head", times: int = 1) -> Reads:
    return {reader: filters_of("a", list(order), times)}


ORDER = list(range(WIDTH))
SAME = moves(ORDER)


def head_of(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    return functools.partial(changed, change)


def changed(change: Callable[[Tensor], Tensor], m: Any, x: Tensor) -> Tensor:
    return head(m, change(m.a(x)))


def network(run: Callable[..., Any]) -> nn.Module:
    torch.manual_seed(0)
    convs = {"a": conv(3, WIDTH), "b": conv(3, 4), "c": conv(3, 4), "single": conv(3, 1)}
    heads = {
        "head": WIDTH,
        "wide": WIDTH * 64,
        "third": 3,
        "sixteen": 16,
        "five": 5,
        "ten": 10,
        "twofold": 24,
        "fourfold": 48,
        "six": 6,
    }
    layers: dict[str, nn.Module] = {
        **convs,
        **{name: nn.Linear(width, 2) for name, width in {**heads, "ninefold": 108}.items()},
        **{"norm": nn.BatchNorm2d(WIDTH), "act": nn.ReLU(inplace=True), "pool": nn.AdaptiveMaxPool2d(1)},
        **{"flat": nn.Flatten(), "drop": nn.Dropout2d(0.5), "shuffle": nn.ChannelShuffle(3), "excite": Excite()},
        **{"slopes": nn.PReLU(WIDTH), "slope": nn.PReLU(), "instance": nn.InstanceNorm2d(WIDTH, affine=True)},
        **{"reflect": conv(WIDTH, WIDTH, padding_mode="reflect"), "group": nn.GroupNorm(4, WIDTH)},
        **{"line": nn.Conv1d(WIDTH, 5, 3), "volume": nn.Conv3d(WIDTH, 5, (1, 3, 3))},
        **{"back": nn.ConvTranspose2d(WIDTH, 5, 2, 2), "halved": nn.ConvTranspose2d(WIDTH, 10, 2, 2, groups=2)},
        **{"spread": nn.ConvTranspose2d(WIDTH, WIDTH, 2, 2, groups=WIDTH), "deep": conv(WIDTH, WIDTH, groups=WIDTH)},
        "standard": Own(lambda x, w: F.conv2d(x, w / (w.std((2, 3), keepdim=True) + 1)), 5, WIDTH, 3, 3),
        "function": Own(lambda x, w: F.conv2d(x, w, padding=1), 5, WIDTH, 3, 3),
        "traced": Own(
            lambda x, w: torch._convolution(
                x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, False, False, True, True
            ),
            *(5, WIDTH, 3, 3),
        ),
        "letters": Own(lambda x, w: torch.einsum("nchw,oc->nohw", x, w), 5, WIDTH),
        "matrix": Own(lambda x, w: x.mT @ w, WIDTH, 5),
        "unit": Own(lambda x, w: F.normalize(x, dim=1) * w, 1),
        "total": Own(lambda x, w: x.sum(1, keepdim=True) * w, 1),
        **{"layer_norm": nn.LayerNorm([WIDTH, 8, 8]), "softmax": nn.Softmax2d(), "rows": nn.Linear(8, 8)},
        "vector": Own(lambda x, w: x @ w, WIDTH),
        "deformed": Own(lambda x, w: deform_conv2d(x, x.new_full((len(x), 18, 6, 6), 0.3), w), 5, WIDTH, 3, 3),
        "apart": Own(lambda x, w: deform_conv2d(x, x.new_full((len(x), 36, 6, 6), 0.3), w), 5, WIDTH, 3, 3),
        "lines": Lines(),
        **{"table": nn.Embedding(5, WIDTH), "bag": nn.EmbeddingBag(5, WIDTH, mode="max")},
    }
    net = Net(run, **layers)
    shapes = {"four": (1, WIDTH, 1, 1), "three": (WIDTH, 1, 1), "one": (WIDTH,), "gamma": (1,), "theta": (1, 2, 3)}
    for name, shape in shapes.items():
        net.register_parameter(name, nn.Parameter(torch.rand(shape)))
    with torch.no_grad():
        layers["slopes"].get_parameter("weight").uniform_(-1, 1)
        for norm in ("group", "instance"):
            layers[norm].get_parameter("weight").uniform_(0.5, 2)
            layers[norm].get_parameter("bias").uniform_(-1, 1)
    net = enliven(net)
    with torch.no_grad():
        net(torch.randn(IMAGES))
    return net


def group_of(graph: ChannelGraph, conv_name: str) -> Any:
    [group] = [group for group in graph.groups if conv_name in group.members]
    return group


def check(net: nn.Module, graph: ChannelGraph, reads: Reads, seeds: int = 3) -> None:
    """Slim against the product's masked network, and against hooks on the dense one."""
    images = torch.randn(IMAGES, generator=torch.Generator().manual_seed(1))
    rounding = precision_of(net, images).tolerance  # of float32 where an operation makes its own, on some CPUs
    for seed in range(seeds):
        removed = drawn(graph, seed)
        thin = slim(net, graph, removed)
        assert slim_error(net, thin, graph, removed, images) <= rounding
        assert apart(outputs(thin, images), masked(net, images, filters_gone(graph, removed), reads)) <= 1e-10
        assert removed[group_of(graph, "a").name]
        assert apart(outputs(thin, images), outputs(net, images)) > 1e-6, "what was removed made no difference"


def pruned_exactly(run: Callable[..., Any], size: int, reads: Reads) -> None:
    """The whole group of `a` may go, and what is left computes what hooks on the dense network say."""
    net = network(run)
    graph = proven_graph(net, torch.randn(IMAGES))
    group = group_of(graph, "a")
    assert (group.size, group.frozen, group.fixed) == (size, None, {})
    check(net, graph, reads)
