"""The controls that take another variant's plan: random channels at its widths, and its slim network from scratch."""

import math
from dataclasses import replace

import pytest
import torch

from daar import models
from daar.errors import InputError
from daar.models import fresh
from daar.models.resnet_cifar import ResNet
from daar.pruning.groups import channel_graph
from daar.pruning.plan import Plan
from daar.pruning.planning import make_plan
from daar.pruning.policies import get
from daar.pruning.random_at import random_at
from daar.pruning.slim import slim
from daar.training.budget import scratch_recipe, stretched
from daar.training.recipe import Recipe
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module

MODEL = ResNet(1, 10)
GRAPH = channel_graph(MODEL, torch.zeros(1, 3, 32, 32))


def plan() -> Plan:
    weights = MODEL.state_dict()
    scores = {layer: weights[f"{layer}.weight"].abs().sum((1, 2, 3)) for layer in GRAPH.scored_layers()}
    return make_plan(
        GRAPH,
        scores,
        get("uniform"),
        loss=lambda _: 0.0,
        options={},
        method="l1",
        policy_name="uniform",
        scope="all",
        target=0.5,
    )


def test_random_at_keeps_the_widths_and_the_macs_but_other_channels() -> None:
    given = plan()
    made = random_at(given, GRAPH, 0)
    assert [len(g.kept) for g in made.groups] == [len(g.kept) for g in given.groups]
    assert (made.macs, made.policy, made.scope, made.target) == (given.macs, given.policy, given.scope, given.target)
    assert made.method == "random_at"
    assert all(a.kept != b.kept for a, b in zip(made.groups, given.groups, strict=True) if len(a.kept) < a.size)
    made.removed(GRAPH)  # it fits the network


def test_random_at_follows_from_the_seed() -> None:
    assert random_at(plan(), GRAPH, 0) == random_at(plan(), GRAPH, 0)
    assert random_at(plan(), GRAPH, 0).groups != random_at(plan(), GRAPH, 1).groups


def test_random_at_leaves_every_member_its_reserve() -> None:
    kept = {group.name: set(group.kept) for group in random_at(plan(), GRAPH, 0).groups}
    for group in GRAPH.in_scope("all"):
        for part, more in group.reserves:
            assert len(kept[group.name] & set(part)) >= more


def test_random_at_refuses_the_plan_of_another_network() -> None:
    """Also one that would go through: of its groups each is there, but not each of the network's is in it."""
    given = plan()
    first, *others = given.groups
    other = replace(first, size=first.size + 1)
    with pytest.raises(InputError, match=rf"the plan has a group '{first.name}' of {first.size + 1} channels"):
        random_at(replace(given, groups=(other, *others)), GRAPH, 0)
    with pytest.raises(InputError, match=rf"the plan lists group '{first.name}' 0 times"):
        random_at(replace(given, groups=tuple(others)), GRAPH, 0)


@pytest.mark.parametrize("name", ["resnet20", "vgg16_bn"])
def test_fresh_weights_have_the_variance_of_their_own_fans(name: str) -> None:
    """He et al. 2015: standard deviation sqrt(2 / fan), at the widths that are left."""
    model = models.get(name).build(10)
    graph = channel_graph(model, torch.zeros(1, 3, 32, 32))
    half = {group.name: list(range(0, group.size, 2)) for group in graph.in_scope("all")}
    thin = slim(model, graph, half)
    shapes = {key: value.shape for key, value in thin.state_dict().items()}
    before = {key: value.clone() for key, value in thin.state_dict().items()}
    torch.manual_seed(3)
    fresh.initialise(thin, name)
    first = {key: value.clone() for key, value in thin.state_dict().items()}
    assert {key: value.shape for key, value in first.items()} == shapes
    for layer, module in thin.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            assert not torch.equal(module.weight, before[f"{layer}.weight"])
            fan = module.weight[0].numel() if name == "resnet20" else 9 * module.out_channels
            spread = 5 / math.sqrt(2 * module.weight.numel())  # five standard errors
            assert float(module.weight.detach().std()) == pytest.approx(math.sqrt(2 / fan), rel=spread), layer
    torch.manual_seed(3)
    fresh.initialise(thin, name)
    assert all(torch.equal(first[key], value) for key, value in thin.state_dict().items())


def test_budgets_by_hand() -> None:
    step = Recipe(epochs=20, schedule="step", milestones=(10, 15), warmup_epochs=2)
    same = scratch_recipe(step, 10, "epochs", 100, 50)
    assert (same.epochs, same.milestones, same.warmup_epochs) == (30, (15, 22), 3)
    assert scratch_recipe(step, 10, "compute", 100, 50).epochs == 50  # (2000 + 500) / 50
    assert scratch_recipe(Recipe(epochs=0), 0, "epochs", 100, 50).epochs == 1
    assert stretched(step, 20) == step
