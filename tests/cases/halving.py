"""Prune any network by half through the same steps as `daar.prune`, and judge it by hooks on the dense one."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.hook_check import checked
from daar.api import filters
from daar.pruning.groups import ChannelGraph
from daar.pruning.plan import Plan
from daar.pruning.planning import uniform_plan
from daar.pruning.proof import prove
from daar.pruning.repairing import proven_graph
from daar.pruning.slim import slim


@dataclass(frozen=True)
class Halved:
    """The network, its slim one and how that came to be."""

    model: nn.Module
    slimmed: nn.Module
    graph: ChannelGraph
    plan: Plan

    @property
    def reduction(self) -> float:
        """Fraction of the MACs removed."""
        return 1 - self.plan.macs / self.plan.macs_dense

    def width(self, path: str) -> int:
        """Filters that a layer of the slim network has."""
        return len(self.slimmed.get_submodule(path).get_parameter("weight"))


def cbr(ins: int, outs: int, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(ins, outs, kernel, 1, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outs), nn.ReLU()
    )


class Net(nn.Module):
    """Three convs and a classifier, which cases change in one respect."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.fc = cbr(3, 32), cbr(32, 32), cbr(32, 32), nn.Linear(32, 10)

    def features(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x)))

    def classified(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))

    def forward(self, x: Any) -> Any:
        return self.classified(x)


def lively(model: nn.Module) -> nn.Module:
    """Statistics, scales and shifts of every norm as after training; eval mode."""
    dice = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.3, generator=dice)
                assert module.running_var is not None
                module.running_var.uniform_(0.5, 1.5, generator=dice)
                if module.affine:
                    module.weight.uniform_(0.5, 1.5, generator=dice)
                    module.bias.normal_(0, 0.3, generator=dice)
    return model.eval()


def images(count: int = 4, *shape: int) -> Tensor:
    return torch.randn(count, *(shape or (3, 16, 16)), generator=torch.Generator().manual_seed(3))


def halved(
    model: nn.Module, given: Any = None, *, target: float = 0.5, scope: str = "all", unseen: tuple[str, ...] | None = ()
) -> Halved:
    """Prune by half; fails where that is out of reach, or the slim network differs from the masked one.

    Args:
        model: any network.
        given: its images; four of 16 × 16 by default.
        target: fraction of the MACs to remove.
        scope: which groups.
        unseen: parameters that hooks cannot follow, since functions read them, or None for weights of layers that they
            read; daar's own proof alone judges there.
    """
    lively(model)
    given = images() if given is None else given
    graph = proven_graph(model, given)
    scores = {layer: filters(model, layer).abs().flatten(1).sum(1) for layer in graph.scored_layers(scope)}
    plan = uniform_plan(graph, scores, scope, target)
    removed = plan.removed(graph)
    assert any(removed.values())
    slimmed = slim(model, graph, removed)
    proof = prove(model, slimmed, graph, removed, given)
    assert proof.error <= proof.precision.tolerance
    if proof.precision.dtype == torch.float64 and unseen is not None:
        verdict = checked(model, slimmed, given)
        assert tuple(verdict.skipped) == unseen
        assert verdict.error <= 1e-10 or unseen
    return Halved(model, slimmed, graph, plan)
