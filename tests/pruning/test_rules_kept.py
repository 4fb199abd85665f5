"""What keeps channels, all or some of them, and what is said of it."""

import functools
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daar.errors import InputError
from daar.models import get
from daar.pruning.plan import Plan, PlannedGroup
from daar.pruning.proof import slim_error
from daar.pruning.repairing import proven_graph
from daar.pruning.slim import slim
from tests.judge import Reads, drawn
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruning.one_operation import IMAGES, SAME, check, group_of, head_of, network
from tests.pruning.test_groups import head

TOGETHER = "channels are taken together"
NORM = "channels are taken together by a norm"
NUMBERS = "channels are taken by their numbers"
COUNTED = "channels are of a product whose other channels are counted"
WRITTEN = "a number of channels is written in the code"
RELIES = "relies on a number of channels"

# what keeps all 12 channels of `a`: why, and the operation; in front of a module's name "in"
KEPT: dict[str, tuple[Callable[..., Any], str, str]] = {
    "sums over channels one by one": (head_of(lambda x: torch.cumsum(x, 1)), TOGETHER, "cumsum"),
    "products": (head_of(lambda x: torch.cumprod(x, 1)), TOGETHER, "cumprod"),
    "sums of exponents": (head_of(lambda x: torch.logcumsumexp(x, 1)), TOGETHER, "logcumsumexp"),
    "softmax over channels": (head_of(lambda x: torch.softmax(x, 1)), TOGETHER, "_softmax"),
    "log of a softmax": (head_of(lambda x: torch.log_softmax(x, 1)), TOGETHER, "_log_softmax"),
    "softmax layer": (lambda m, x: head(m, m.softmax(m.a(x))), TOGETHER, "_softmax in softmax"),
    "sorted channels": (head_of(lambda x: x.sort(1)[0]), TOGETHER, "sort"),
    "rolled channels": (head_of(lambda x: x.roll(1, 1)), TOGETHER, "roll"),
    "mean over channels": (head_of(lambda x: x * x.mean([1], keepdim=True)), TOGETHER, "mean"),
    "mean over all": (head_of(lambda x: x * x.mean()), TOGETHER, "mean"),
    "mean over channels and rows": (head_of(lambda x: x * x.mean((1, 2), keepdim=True)), TOGETHER, "mean"),
    "mean of what is flat": (
        lambda m, x: m.head(m.a(x).mean((2, 3)) * m.a(x).mean((2, 3)).mean([-1], keepdim=True)), TOGETHER, "mean",
    ),
    "largest channel": (head_of(lambda x: x * x.amax(1, keepdim=True)), TOGETHER, "amax"),
    "smallest channel": (head_of(lambda x: x * x.amin(1, keepdim=True)), TOGETHER, "amin"),
    "largest, and which": (head_of(lambda x: x * x.max(1, keepdim=True)[0]), TOGETHER, "max"),
    "smallest, and which": (head_of(lambda x: x * x.min(1, keepdim=True)[0]), TOGETHER, "min"),
    "which is largest": (head_of(lambda x: x * x.argmax(1, keepdim=True)), TOGETHER, "argmax"),
    "which is smallest": (head_of(lambda x: x * x.argmin(1, keepdim=True)), TOGETHER, "argmin"),
    "product of all": (head_of(lambda x: x + x.prod(1, keepdim=True)), TOGETHER, "prod"),
    "any of them": (head_of(lambda x: x * (x > 0).any(1, keepdim=True)), TOGETHER, "any"),
    "all of them": (head_of(lambda x: x * (x > -1).all(1, keepdim=True)), TOGETHER, "all"),
    "middle one": (head_of(lambda x: x * x.median(1, keepdim=True)[0]), TOGETHER, "median"),
    "variance": (head_of(lambda x: x * x.var(1, keepdim=True)), TOGETHER, "var"),
    "deviation": (head_of(lambda x: x * x.std(1, keepdim=True)), TOGETHER, "std"),
    "mean and variance": (head_of(lambda x: x * torch.var_mean(x, 1, keepdim=True)[1]), TOGETHER, "var_mean"),
    "mean and deviation": (head_of(lambda x: x * torch.std_mean(x, 1, keepdim=True)[1]), TOGETHER, "std_mean"),
    "log of a sum": (head_of(lambda x: x * x.logsumexp(1, keepdim=True)), TOGETHER, "logsumexp"),
    "largest length": (
        head_of(lambda x: x * torch.linalg.vector_norm(x, ord=float("inf"), dim=1, keepdim=True)),
        TOGETHER, "linalg_vector_norm",
    ),
    "layer norm": (lambda m, x: head(m, m.layer_norm(m.a(x))), NORM, "native_layer_norm in layer_norm"),
    "scale by what is unknown": (
        lambda m, x: m.head(m.a(x).mean((2, 3)) * torch.cumsum(x.flatten(1)[:, :12], 1)),
        "channels meet what has none", "mul",
    ),
    "linear along rows": (
        lambda m, x: head(m, m.rows(m.a(x))), COUNTED, "addmm in rows",
    ),
    "channels with channels": (
        lambda m, x: m.head((m.a(x).flatten(2) @ m.a(x).flatten(2).mT).mean(2)),
        COUNTED, "bmm",
    ),
    "products of batches, added to": (
        lambda m, x: m.head(torch.baddbmm(m.a(x).flatten(2), m.a(x).flatten(2), torch.eye(64, dtype=x.dtype)
                                          .expand(len(x), 64, 64)).mean(2)),
        COUNTED, "baddbmm",
    ),
    "attention between positions": (
        lambda m, x: m.head(
            F.scaled_dot_product_attention(*[m.a(x).flatten(2).mT[:, None].contiguous()] * 3).mean((1, 2))
        ),
        "attention is scaled by its width", "_scaled_dot_product_flash_attention_for_cpu",
    ),
    "attention, not fused": (
        lambda m, x: m.head(F.scaled_dot_product_attention(*[m.a(x).flatten(2).mT] * 3).mean(1)),
        f"{RELIES} (its values differ)", "mul",
    ),
    "constant of the code": (head_of(lambda x: x + torch.ones(1, 12, 1, 1, dtype=x.dtype)), WRITTEN, "ones"),
    "flatten of written size": (lambda m, x: m.wide(m.a(x).view(-1, 768)), RELIES, "view"),
    "view across channels": (head_of(lambda x: x.view(-1, 24, 4, 8).view(-1, 12, 8, 8)), RELIES, "view"),
    "expanded to a written size": (
        lambda m, x: head(m, m.a(x) + m.single(x).expand(-1, 12, -1, -1)), RELIES, "add",
    ),
    "split at written places": (head_of(lambda x: torch.cat(x.split([5, 7], 1)[::-1], 1)), RELIES, "split_with_sizes"),
    "written slice": (lambda m, x: m.sixteen(torch.cat([m.a(x)[:, 1:9], m.a(x)[:, 4:]], 1).mean((2, 3))), WRITTEN,
                      "slice"),
    "slice from behind": (head_of(lambda x: torch.cat([x[:, -2:], x[:, :10]], 1)), WRITTEN, "slice"),
    "slice with a step": (lambda m, x: head(m, torch.cat([m.a(x)[:, ::3], m.b(x), m.c(x)], 1)), WRITTEN, "slice"),
    "shuffle of written size": (
        head_of(lambda x: x.view(-1, 3, 4, 8, 8).transpose(1, 2).reshape(-1, 12, 8, 8)), WRITTEN, "view",
    ),
    "a channel by its number": (head_of(lambda x: x * x[:, 3][:, None]), "a channel is taken by its number", "select"),
    "channels one by one": (head_of(lambda x: torch.stack(x.unbind(1)[::-1], 1)), "channels are taken one by one",
                            "unbind"),
    "channels by a list": (head_of(lambda x: x[:, [*range(11, -1, -1)]]), NUMBERS, "index"),
    "channels by a tensor": (head_of(lambda x: x.index_select(1, torch.arange(12).flip(0))), NUMBERS, "index_select"),
    "channels cropped and padded": (
        head_of(lambda x: F.pad(x, (0, 0, 0, 0, -1, 1))), "leads to addmm in head", "constant_pad_nd",
    ),
    "the largest few": (head_of(lambda x: torch.cat(x.topk(6, 1)[:1] * 2, 1)), TOGETHER, "topk"),
    "spectrum over channels": (head_of(lambda x: torch.fft.fft(x, dim=1).real), TOGETHER, "_fft_r2c"),
    "windows of channels": (head_of(lambda x: x.unfold(1, 1, 1)[..., 0]), "channels are taken by ranges", "unfold"),
    "lengths of images limited": (head_of(lambda x: x.renorm(2, 0, 1.0)), NORM, "renorm"),
    "norm of near channels": (head_of(lambda x: F.local_response_norm(x, 3)), "channels are positions of a map",
                              "avg_pool3d"),
    "channels gathered": (head_of(lambda x: x.gather(1, x.argsort(1))), TOGETHER, "sort"),
    "channels written by a list": (head_of(lambda x: x.index_put((torch.arange(2),), x[:1])
                                           .index_fill(1, torch.tensor([2]), 0.5)), NUMBERS, "index_fill"),
    "what no rule knows": (head_of(lambda x: x.masked_scatter(x > 0, x * 2)), "read by an unknown operation",
                           "masked_scatter"),
}  # fmt: skip


@pytest.mark.parametrize(("run", "why", "operation"), KEPT.values(), ids=KEPT)
def test_what_stays_whole_is_named_with_its_place(run: Callable[..., Any], why: str, operation: str) -> None:
    net = network(run)
    graph = proven_graph(net, torch.randn(IMAGES))
    group = group_of(graph, "a")
    assert group.size >= 3, "with so few, none could go even if all were free"
    assert group.frozen is not None
    assert group.frozen.startswith(why), group.frozen
    code = (run.args[0] if isinstance(run, functools.partial) else run).__code__
    [(named, line)] = re.findall(rf": ([^:]*) \({re.escape(code.co_filename)}:(\d+)\)$", group.frozen)
    assert (named, int(line) - code.co_firstlineno) in [(operation, below) for below in range(3)], group.frozen
    assert "a" not in graph.scored_layers()


FIXED: dict[str, tuple[Callable[..., Any], list[int], Reads, str]] = {
    "pad of channels": (
        lambda m, x: head(m, F.pad(m.c(x), (0, 0, 0, 0, 3, 5)) + m.a(x)), [*range(3), *range(7, 12)], SAME,
        "padded by a written number of channels: constant_pad_nd",
    ),
    "pad of channels behind": (
        lambda m, x: head(m, F.pad(m.c(x), (0, 0, 0, 0, 0, 8)) + m.a(x)), [*range(4, 12)], SAME,
        "padded by a written number of channels: constant_pad_nd",
    ),
    "zeros next to channels": (
        lambda m, x: head(m, torch.cat([m.c(x), torch.zeros(len(x), 8, 8, 8, dtype=x.dtype)], 1) + m.a(x)),
        [*range(4, 12)], SAME, f"{WRITTEN}: zeros",
    ),
    "added to images": (
        lambda m, x: head(m, torch.cat([x, m.b(x), m.c(x), m.single(x)], 1) + m.a(x)), [0, 1, 2, 11], SAME,
        "network input",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("run", "stay", "reads", "why"), FIXED.values(), ids=FIXED)
def test_some_channels_stay_and_the_others_go(run: Callable[..., Any], stay: list[int], reads: Reads, why: str) -> None:
    net = network(run)
    graph = proven_graph(net, torch.randn(IMAGES))
    group = group_of(graph, "a")
    assert group.frozen is None
    assert [i for i, index in enumerate(group.positions["a"].tolist()) if index in group.fixed] == stay
    assert any(reason.startswith(why) for reason in group.fixed.values()), group.fixed
    check(net, graph, reads)


def test_channels_that_go_only_all_together_stay_and_are_said_to() -> None:
    net = network(head_of(lambda x: F.group_norm(x, 1)))
    graph = proven_graph(net, torch.randn(IMAGES))
    group = group_of(graph, "a")
    assert (group.size, group.min_kept) == (1, 1)
    assert drawn(graph, 0)["a"] == []


def test_a_plan_keeps_what_is_fixed() -> None:
    net = network(FIXED["pad of channels"][0])
    graph = proven_graph(net, torch.randn(IMAGES))
    group = group_of(graph, "a")
    groups = (PlannedGroup(group.name, 12, tuple(sorted({*range(12)} - {min(group.fixed)}))),)
    with pytest.raises(InputError, match=r"which must stay: padded by a written number of channels"):
        Plan("m", "p", "all", None, 2, 1, groups, {}).removed(graph)


class Written(nn.Module):
    """akamaster's option A: pads by a number of channels that an attribute holds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.planes = channels

    def forward(self, x: Tensor) -> Tensor:
        ends = self.planes // 4
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, ends, ends), "constant", 0)


def test_option_a_as_it_is_mostly_written_is_pruned() -> None:
    model = get("resnet20").build(10)
    for stage, channels in (("layer2", 32), ("layer3", 64)):
        setattr(model.get_submodule(f"{stage}.0"), "shortcut", Written(channels))  # noqa: B010  # mypy: no attribute
    enliven(model)
    images = torch.randn(2, 3, 32, 32)
    graph = proven_graph(model, images)
    [stream] = [group for group in graph.groups if group.joins]
    assert (stream.size, len(stream.fixed), stream.min_kept) == (64, 48, 50)
    removed = {group.name: list(range(2)) for group in graph.in_scope("inner")}
    removed[stream.name] = [index for index in range(64) if index not in stream.fixed][3:9]
    thin = slim(model, graph, removed)
    assert slim_error(model, thin, graph, removed, images) <= 1e-10
    assert thin.get_submodule("conv1").out_channels == 10
