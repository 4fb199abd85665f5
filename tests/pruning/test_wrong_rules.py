"""A rule that follows channels wrongly is seen by the proof."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from daar.errors import InputError
from daar.pruning.groups import ChannelGraph
from daar.pruning.proof import slim_error
from daar.pruning.rules import RULES, layers, pointwise, views
from daar.pruning.slim import slim
from tests.judge import apart, drawn, filters_gone, filters_of, masked, outputs
from tests.networks import one_thread  # noqa: F401  # it acts on this module
from tests.pruning.test_groups import conv, head
from tests.pruning.test_proof import IMAGES, lively, proven


def reversed_channels(run: Any, op: Any) -> Any:
    made: Any = pointwise.pointwise(run, op)
    made[0][1] = made[0][1][::-1]
    return made


def cat_swapped(run: Any, op: Any) -> Any:
    made: Any
    [made] = views.cat(run, op)
    made[1] = np.roll(made[1], 1)
    return [made]


def split_swapped(run: Any, op: Any) -> Any:
    return views.split(run, op)[::-1]


def free_norm(run: Any, op: Any) -> Any:
    """A norm over channels, as if each were by itself."""
    labels = run.of(op.args[0])
    return [list(labels), *[[None] * len(run.shape(ref)) for ref in op.result[1:]]]


def free_softmax(run: Any, op: Any) -> Any:
    return [list(run.of(op.args[0]))]


def free_mean(run: Any, op: Any) -> Any:
    """A mean over channels, as if it were a sum."""
    run.read(op, op.args[0], 1)
    return [[labels if d != 1 else None for d, labels in enumerate(run.of(op.args[0]))]]


def unread_conv(run: Any, op: Any) -> Any:
    """A conv that forgets to say that it sums over channels."""
    before = list(run.reads)
    made = layers.convolution(run, op)
    run.reads[:] = before
    return made


def loose_conv(run: Any, op: Any) -> Any:
    """A conv whose filters have nothing to do with its bias."""
    made: Any
    [made] = layers.convolution(run, op)
    made[1] = run.ids.fresh(len(made[1]))
    return [made]


def repeated_flatten(run: Any, op: Any) -> Any:
    """A flatten that takes channels to vary fastest."""
    [made] = views.view(run, op)
    channels = next(labels for labels in run.of(op.args[0]) if labels is not None)
    if made[-1] is not None and len(made[-1]) > len(channels):
        made[-1] = np.tile(channels, len(made[-1]) // len(channels))
    return [made]


def still_transpose(run: Any, op: Any) -> Any:
    labels = run.of(op.args[0])
    return [list(labels)] if len(labels) == 5 else views.transpose(run, op)


def straight_shuffle(run: Any, op: Any) -> Any:
    return [list(run.of(op.args[0]))]


def norm_elsewhere(run: Any, op: Any) -> Any:
    """A batch norm whose scale holds the channels in reverse."""
    labels = run.of(op.args[0])
    for ref in op.args[1:5]:
        run.ids.unify(labels[1], run.of(ref)[0][::-1])
    return [list(labels), *[[None] * len(run.shape(ref)) for ref in op.result[1:]]]


WRONG: dict[str, tuple[str, Callable[..., Any], Callable[..., Any]]] = {
    "relu in reverse": ("relu", reversed_channels, lambda m, x: head(m, m.b(m.a(x).relu()))),
    "concatenation rolled": ("cat", cat_swapped, lambda m, x: head(m, m.b(torch.cat(m.a(x).chunk(2, 1), 1)))),
    "halves swapped": (
        "split", split_swapped,
        lambda m, x: head(m, m.b(torch.cat([m.a(x).chunk(2, 1)[0] * 2, m.a(x).chunk(2, 1)[1]], 1))),
    ),
    "layer norm of each": (
        "native_layer_norm", free_norm, lambda m, x: head(m, m.b(F.layer_norm(m.a(x), m.a(x).shape[1:]))),
    ),
    "softmax of each": ("_softmax", free_softmax, lambda m, x: head(m, m.b(m.a(x).softmax(1)))),
    "mean as a sum": ("mean", free_mean, lambda m, x: m.head(m.b(m.a(x) * m.a(x).mean(1, keepdim=True)).sum((2, 3)))),
    "conv not read": ("convolution", unread_conv, lambda m, x: head(m, m.b(m.a(x) + 1))),
    "conv apart": ("convolution", loose_conv, lambda m, x: head(m, m.b(m.a(x)))),
    "flatten by places": ("view", repeated_flatten, lambda m, x: m.flat(m.a(x).flatten(1))),
    "transpose of nothing": (
        "transpose", still_transpose,
        lambda m, x: head(m, m.b(m.a(x).view(2, 2, m.a(x).shape[1] // 2, 8, 8).transpose(1, 2).reshape(2, -1, 8, 8))),
    ),
    "shuffle of nothing": (
        "channel_shuffle", straight_shuffle, lambda m, x: head(m, m.b(F.channel_shuffle(m.a(x), 2))),
    ),
    "norm in reverse": ("native_batch_norm", norm_elsewhere, lambda m, x: head(m, m.b(m.norm(m.a(x))))),
}  # fmt: skip


@pytest.mark.parametrize(("name", "rule", "run"), WRONG.values(), ids=WRONG)
def test_a_wrong_rule_is_seen(
    monkeypatch: pytest.MonkeyPatch, name: str, rule: Callable[..., Any], run: Callable[..., Any]
) -> None:
    """The proof refuses, or keeps what the rule is wrong about: it never gives groups that prune inexactly."""
    layers_ = {"a": conv(3, 8), "b": conv(8, 6), "norm": nn.BatchNorm2d(8), "head": nn.Linear(6, 2)}
    model = lively(**layers_, flat=nn.Linear(512, 2))(run)
    right = proven(model)
    called: list[int] = []

    def wrong(*args: Any) -> Any:
        called.append(1)
        return rule(*args)

    monkeypatch.setitem(RULES, name, wrong)
    try:
        graph = proven(model)
    except (InputError, AssertionError, ValueError):  # or labels do not fit the shapes any more
        assert called
        return
    assert called, "the rule was never met"
    images = torch.randn(IMAGES)
    reads = {"b": filters_of("a", range(8)), "head": filters_of("b", range(6))}
    judged = run.__code__.co_names.count("b") and not {"chunk", "channel_shuffle", "transpose", "flat"} & set(
        run.__code__.co_names
    )
    for seed in range(4):
        removed = drawn(graph, seed)
        thin = slim(model, graph, removed)
        assert slim_error(model, thin, graph, removed, images) <= 1e-10
        if judged:
            assert apart(outputs(thin, images), masked(model, images, filters_gone(graph, removed), reads)) <= 1e-10
    assert kept(graph) >= kept(right)


def kept(graph: ChannelGraph) -> int:
    """How many channels cannot go."""
    return sum(group.size if group.frozen else group.min_kept for group in graph.groups)
