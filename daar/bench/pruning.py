"""Seconds that pruning takes: from a network to a slim one, and each policy's plan."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from daar import discovery, models
from daar.bench.harness import Benchmark, Options, Side, Sides, under
from daar.pruning import policies
from daar.pruning.groups import ChannelGraph, channel_graph
from daar.pruning.plan import Plan
from daar.pruning.planning import make_plan
from daar.pruning.slim import slim

NETWORK = "resnet110"
CLASSES = 10
TARGET = 0.5
IMAGE = (1, 3, 32, 32)
WORDS = f"random importance, {TARGET:.0%} of the MACs removed"


def benchmarks() -> list[Benchmark]:
    """Pruning ResNet-110, and a plan for it by every policy there is."""
    title = "Pruning ResNet-110: trace, groups, plan, slim"
    plans = [
        Benchmark(
            f"plan-{NETWORK}-{policy}",
            f"Plan for ResNet-110, policy `{policy}`",
            functools.partial(_plan, policy),
            under(5),
            budget=60,
        )
        for policy in _policies()
    ]
    return [Benchmark(f"prune-{NETWORK}", title, _prune, under(5)), *plans]


def _policies() -> list[str]:
    """Those that plan any network for any target: ours, and those that methods bring."""
    return [*policies.OWN, *(method.policy for method in discovery.find().values() if method.plans)]


@contextmanager
def _prune(_: Options) -> Iterator[Sides]:
    model = models.get(NETWORK).build(CLASSES)
    scores = _random_scores(channel_graph(model, torch.zeros(IMAGE)))

    def prune() -> None:
        graph = channel_graph(model, torch.zeros(IMAGE))
        slim(model, graph, _planned(graph, scores, "uniform").removed(graph))

    yield Sides(Side(f"uniform policy, {WORDS}", prune))


@contextmanager
def _plan(policy: str, _: Options) -> Iterator[Sides]:
    graph = channel_graph(models.get(NETWORK).build(CLASSES), torch.zeros(IMAGE))
    scores = _random_scores(graph)

    def plan() -> None:
        _planned(graph, scores, policy)

    yield Sides(Side(f"{WORDS}; the calibration loss, where a policy asks for it, is 0 and takes no time", plan))


def _random_scores(graph: ChannelGraph) -> dict[str, Tensor]:
    dice = torch.Generator().manual_seed(0)
    return {layer: torch.rand(len(graph.layers[layer].outputs), generator=dice) for layer in graph.scored_layers()}


def _planned(graph: ChannelGraph, scores: dict[str, Tensor], policy: str) -> Plan:
    return make_plan(
        graph,
        scores,
        policies.get(policy),
        loss=lambda _: 0.0,
        options={},
        method="random",
        policy_name=policy,
        scope="all",
        target=TARGET,
    )
