"""Seconds that pruning takes: from a network to a slim one, each policy's plan, and the loss that plans ask for."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from benchmarks.harness import Benchmark, Options, Side, Sides, at_least, under
from daar import models
from daar.device.malloc import retain_freed_memory
from daar.device.precision import strict_float32
from daar.methods import planners
from daar.pruning import importance, policies
from daar.pruning.calibration_loss import CalibrationLoss
from daar.pruning.groups import ChannelGraph, graph_of
from daar.pruning.masked import Masked
from daar.pruning.plan import Plan
from daar.pruning.planning import make_plan
from daar.pruning.policy_arguments import layers_for
from daar.pruning.shapes import shapes_of
from daar.pruning.slim import slim

NETWORK = "resnet110"
# the most seconds from a network to its slim one
LIMITS = {"resnet110": 5, "densenet40": 5, "googlenet": 15}
TARGET = 0.5
# networks whose calibration loss is timed, the images, and for how many groups
LOSSES, IMAGES, GROUPS = ("resnet20", "resnet56"), 256, 6
WORDS = f"random importance, {TARGET:.0%} of the MACs removed"


def benchmarks() -> list[Benchmark]:
    """Pruning the networks of most layers and groups, and a plan for ResNet-110 by every policy there is."""
    pruned = [
        Benchmark(
            f"prune-{name}",
            f"Pruning {models.get(name).title}: trace, groups, plan, slim",
            functools.partial(_prune, name),
            under(limit),
        )
        for name, limit in LIMITS.items()
    ]
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
    losses = [
        Benchmark(
            f"loss-{name}",
            f"Calibration loss of {models.get(name).title}, {IMAGES} images, channels of one group masked",
            functools.partial(_loss, name),
            at_least(3),
            most=9,
        )
        for name in LOSSES
    ]
    return [*pruned, *plans, *losses]


def _policies() -> list[str]:
    """Those that plan any network for any target: ours, and those that folders bring."""
    return [*policies.OWN, *planners.find()]


@contextmanager
def _prune(network: str, _: Options) -> Iterator[Sides]:
    model, input_shape = _built(network)
    scores = random_scores(graph_of(model, input_shape))

    def prune() -> None:
        graph = graph_of(model, input_shape)
        slim(model, graph, planned(graph, scores, "uniform").removed(graph))

    yield Sides(Side(f"uniform policy, {WORDS}", prune))


@contextmanager
def _plan(policy: str, _: Options) -> Iterator[Sides]:
    graph = graph_of(*_built(NETWORK))
    scores = random_scores(graph)

    def plan() -> None:
        planned(graph, scores, policy)

    about = "the calibration loss, where a policy asks for it, is the square of how many channels go and takes no time"
    yield Sides(Side(f"{WORDS}; {about}", plan))


@contextmanager
def _loss(network: str, options: Options) -> Iterator[Sides]:
    model, input_shape = _built(network)
    graph = graph_of(model.eval(), input_shape)
    images = torch.randn(IMAGES, *input_shape, generator=torch.Generator().manual_seed(0)).to(options.device)
    model = model.to(options.device)
    loss = CalibrationLoss(model, graph, images)
    groups = graph.in_scope("all")
    removed = [{group.name: [0]} for group in groups[:: -(-len(groups) // GROUPS)]]

    def ours() -> None:
        with retain_freed_memory(options.device):  # as a plan does
            for gone in removed:
                loss(gone)

    def whole() -> None:
        with strict_float32():
            for gone in removed:
                float(Masked(model, graph, gone)(images).sum())

    yield Sides(
        Side("from the first masked layer on, in passes of 32 images", ours, times=len(removed)),
        Side("the whole masked network, all images at once", whole, times=len(removed)),
    )


def _built(network: str) -> tuple[nn.Module, Sequence[int]]:
    entry = models.get(network)
    return entry.build(entry.classes), entry.input_shape


def random_scores(graph: ChannelGraph) -> dict[str, Tensor]:
    """Importance for every layer, the same in each call."""
    dice = torch.Generator().manual_seed(0)
    return {layer: torch.rand(width, generator=dice) for layer, width in importance.widths(graph).items()}


def planned(graph: ChannelGraph, scores: dict[str, Tensor], policy: str, round_to: int = 1) -> Plan:
    """A plan for half of the MACs, scope `all`."""
    return make_plan(
        graph,
        scores,
        policies.get(policy),
        loss=lambda removed: float(sum(map(len, removed.values())) ** 2),
        options=layers_for(policy, lambda: shapes_of(graph)),
        method="random",
        policy_name=policy,
        scope="all",
        target=TARGET,
        round_to=round_to,
    )
