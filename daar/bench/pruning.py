"""Seconds that pruning takes: from a network to a slim one, and each method's scores."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from daar import discovery, models
from daar.api import Batch
from daar.bench.harness import Benchmark, Options, Side, Sides, under
from daar.discovery import Method
from daar.pruning import policies
from daar.pruning.groups import channel_graph
from daar.pruning.planning import make_plan
from daar.pruning.slim import slim
from daar.stages.score import run as run_score

CLASSES = 10
IMAGES = 640
TARGET = 0.5
IMAGE = (1, 3, 32, 32)


def benchmarks() -> list[Benchmark]:
    """Pruning ResNet-110, and the scores of every method there is, on ResNet-56."""
    scores = [
        Benchmark(
            f"score-{name}",
            f"Scores of `{name}`, ResNet-56, {IMAGES} images",
            functools.partial(_score, method),
            budget=60,
        )
        for name, method in discovery.find().items()
    ]
    title = "Pruning ResNet-110: trace, groups, plan, slim"
    return [Benchmark("prune-resnet110", title, _prune, under(5)), *scores]


@contextmanager
def _prune(_: Options) -> Iterator[Sides]:
    model = models.get("resnet110").build(CLASSES)
    dice = torch.Generator().manual_seed(0)
    graph = channel_graph(model, torch.zeros(IMAGE))
    scores = {layer: torch.rand(len(graph.layers[layer].outputs), generator=dice) for layer in graph.scored_layers()}

    def prune() -> None:
        graph = channel_graph(model, torch.zeros(IMAGE))
        plan = make_plan(
            graph,
            scores,
            policies.get("uniform"),
            loss=lambda _: 0.0,
            options={},
            method="random",
            policy_name="uniform",
            scope="all",
            target=TARGET,
        )
        slim(model, graph, plan.removed(graph))

    yield Sides(Side(f"random importance, uniform policy, {TARGET:.0%} of the MACs removed", prune))


@contextmanager
def _score(method: Method, options: Options) -> Iterator[Sides]:
    model = models.get("resnet56").build(CLASSES).to(options.device)
    dice = torch.Generator().manual_seed(0)
    batch = Batch(torch.randn(IMAGES, *IMAGE[1:], generator=dice), torch.randint(CLASSES, (IMAGES,), generator=dice))
    layers = channel_graph(model, torch.zeros(IMAGE, device=options.device)).scored_layers()
    module = discovery.load(method)
    chosen = {"seed": 0} if discovery.takes_seed(module.score) else {}

    def score() -> None:
        run_score(module.score, model, batch, layers, chosen)

    yield Sides(Side(f"{len(layers)} layers, on {options.device.type}", score))
