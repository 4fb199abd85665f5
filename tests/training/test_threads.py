"""Which networks train on one thread: those that a second made slower where they were timed."""

import pytest
import torch
from torch import nn

from daar import models
from daar.pruning.groups import graph_of
from daar.pruning.slim import slim
from daar.training import threads

CPU, SHAPE = torch.device("cpu"), (3, 32, 32)


def network(name: str, removed: float) -> nn.Module:
    model = models.get(name).build(10)
    graph = graph_of(model, SHAPE)
    return slim(model, graph, {g.name: list(range(round(g.size * removed))) for g in graph.in_scope("all")})


@pytest.mark.parametrize(
    ("name", "removed", "narrow"),
    [
        # docs/performance.md, Threads of a training
        ("resnet20", 0, False),
        ("resnet20", 0.3, True),
        ("resnet20", 0.5, True),
        ("resnet56", 0, False),
        ("resnet56", 0.3, True),
        ("resnet56", 0.6, True),
        ("vgg16_bn", 0, False),
        ("vgg16_bn", 0.6, False),
    ],
)
def test_networks_that_were_slower_on_two_threads_are_narrow(name: str, removed: float, narrow: bool) -> None:
    assert threads.is_narrow(network(name, removed), torch.zeros(1, *SHAPE)) == narrow


@pytest.mark.parametrize(
    ("removed", "given", "device", "used"),
    [(0.6, 2, "cpu", 1), (0.6, 1, "cpu", 1), (0, 2, "cpu", 2), (0.6, 2, "cuda", 2)],
)
def test_one_thread_for_narrow_networks_on_a_cpu_and_what_it_was_afterwards(
    removed: float, given: int, device: str, used: int
) -> None:
    model, before = network("resnet20", removed).train(), torch.get_num_threads()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    torch.set_num_threads(given)
    try:
        with threads.suiting(model, SHAPE, torch.device(device)) as one_is_faster:
            assert torch.get_num_threads() == used
            assert one_is_faster == (used < given)
        assert torch.get_num_threads() == given
    finally:
        torch.set_num_threads(before)
    assert model.training
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_network_without_convs_is_no_reason_to_fail() -> None:
    assert threads.is_narrow(nn.Flatten(), torch.zeros(1, *SHAPE))
