"""What half of the MACs is worth in time: slim networks next to their dense ones, with free and with rounded widths."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from benchmarks.harness import Benchmark, Options, Side, Sides, at_least
from benchmarks.pruning import planned, random_scores
from daar import models
from daar.device.precision import evaluating
from daar.pruning.groups import graph_of
from daar.pruning.slim import slim

BATCH = 128
NETWORKS = {"resnet56": "ResNet-56", "vgg16_bn": "VGG-16"}
MULTIPLES = (1, 8, 16)
GOAL = at_least(1.4)


def benchmarks() -> list[Benchmark]:
    """Evaluation of ResNet-56 and VGG-16 with half of the MACs, in float32 and bfloat16."""
    return [
        Benchmark(
            f"slim-{network}{'' if multiple == 1 else f'-by-{multiple}'}{suffix}",
            f"{title} slim against dense, batch {BATCH}, {words}{'' if multiple == 1 else f', in {multiple}s'}",
            functools.partial(_sides, network, multiple, precision),
            GOAL if multiple == 1 and not suffix else None,
            budget=120,
        )
        for network, title in NETWORKS.items()
        for precision, suffix, words in ((torch.float32, "", "float32"), (torch.bfloat16, "-bf16", "bfloat16"))
        for multiple in MULTIPLES
    ]


@contextmanager
def _sides(network: str, multiple: int, precision: torch.dtype, options: Options) -> Iterator[Sides]:
    entry = models.get(network)
    dense = entry.build(entry.classes).eval()
    graph = graph_of(dense, entry.input_shape)
    plan = planned(graph, random_scores(graph), "uniform", multiple)
    slimmed = slim(dense, graph, plan.removed(graph))
    images = torch.rand(BATCH, *entry.input_shape).to(options.device).to(memory_format=torch.channels_last)
    removed = f"{1 - plan.macs / plan.macs_dense:.1%} of the MACs removed, policy uniform, scope all"
    yield Sides(
        Side(f"slim, {removed}", _run(slimmed, images, precision, options), BATCH),
        Side("dense, channels_last like the slim one", _run(dense, images, precision, options), BATCH),
    )


def _run(model: nn.Module, images: Tensor, precision: torch.dtype, options: Options) -> functools.partial[None]:
    placed = model.to(options.device).to(memory_format=torch.channels_last)
    return functools.partial(_forward, placed, images, precision)


def _forward(model: nn.Module, images: Tensor, precision: torch.dtype) -> None:
    device = images.device.type
    with evaluating(model), torch.autocast(device, precision, enabled=precision is not torch.float32):
        model(images)
    if device == "cuda":
        torch.cuda.synchronize(images.device)
