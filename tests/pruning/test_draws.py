"""Networks that draw random numbers in eval mode: pruned where they are drawn, compared by the same numbers, named."""

import random
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import daar
from daar.errors import InputError
from daar.program.draws import Draws, draws, seeded
from daar.program.recording import recorded
from daar.pruning.proof import slim_error
from daar.pruning.repairing import proven_graph
from daar.pruning.slim import slim
from tests.judge import apart, drawn, filters_gone, filters_of, masked, outputs
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruning.test_groups import Net, conv, head

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def in_place(name: str, *given: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x + getattr(torch.empty_like(x), name)(*given)


# what is done to the map of 8 channels between two convs
DRAWN_BETWEEN: dict[str, Callable[[Tensor], Tensor]] = {
    "dropout": lambda x: F.dropout(x, 0.3, training=True),
    "alpha dropout": lambda x: F.alpha_dropout(x, 0.3, training=True),
    "noise": lambda x: x + torch.randn_like(x),
    "noise in place": lambda x: x + torch.empty_like(x).normal_(),
    "uniform": lambda x: x * torch.rand_like(x),
    "whole numbers": lambda x: x * torch.randint_like(x, 1, 5),
    "rrelu": F.rrelu,
    "uniform in place": in_place("uniform_"),
    "exponential in place": in_place("exponential_"),
    "log normal in place": in_place("log_normal_"),
    "Cauchy in place": in_place("cauchy_"),
    "geometric in place": in_place("geometric_", 0.3),
    "whole numbers in place": in_place("random_", 0, 4),
    "noise of one channel": lambda x: x + torch.randn(len(x), 1, 8, 8, dtype=x.dtype),
    "stochastic depth": lambda x: x + x * torch.empty(len(x), 1, 1, 1, dtype=x.dtype).bernoulli_(0.5),
    "branch": lambda x: 2 * x if torch.rand(()) < 0.5 else x.relu(),
    "Python's": lambda x: x * random.random(),
    "numpy's": lambda x: x * float(np.random.rand()),
}


def network(between: Callable[[Tensor], Tensor]) -> nn.Module:
    torch.manual_seed(0)
    layers = {"a": conv(3, 8), "b": conv(8, 6), "head": nn.Linear(6, 4)}
    return enliven(Net(lambda m, x: head(m, m.b(between(m.a(x)))), **layers))


def both_are_pruned(model: nn.Module, images: Tensor, tolerance: float) -> None:
    """That channels of both convs can go, and slim is masked for several random removals."""
    graph = proven_graph(model, images)
    assert {group.name: group.frozen for group in graph.groups} == {"a": None, "b": None}
    for seed in range(4):
        removed = drawn(graph, seed)
        assert removed["a"]
        assert slim_error(model, slim(model, graph, removed), graph, removed, images) <= tolerance


@pytest.mark.parametrize("name", DRAWN_BETWEEN)
def test_channels_go_where_numbers_are_drawn(name: str) -> None:
    both_are_pruned(network(DRAWN_BETWEEN[name]), IMAGES, tolerance=1e-6)


@contextmanager
def halved_noise(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Noise that a judge can foresee: the half of what it is like."""
    with monkeypatch.context() as patched:
        patched.setattr(torch, "randn_like", lambda x: x / 2)
        yield


def test_what_is_cut_is_right_by_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(lambda x: x + torch.randn_like(x))
    graph = proven_graph(model, IMAGES)
    removed = drawn(graph, 0)
    thin = slim(model, graph, removed)
    reads = {"b": filters_of("a", range(8)), "head": filters_of("b", range(6))}
    with halved_noise(monkeypatch):
        assert apart(outputs(thin, IMAGES), masked(model, IMAGES, filters_gone(graph, removed), reads)) <= 1e-12


def test_a_slim_network_that_draws_other_numbers_is_seen() -> None:
    model = network(lambda x: x + torch.randn_like(x))
    graph = proven_graph(model, IMAGES)
    removed = drawn(graph, 0)
    thin = slim(model, graph, removed)
    with torch.no_grad():
        thin.get_submodule("b").get_parameter("weight")[0] *= 1.001
    with pytest.raises(InputError, match="differs from the masked one"):
        slim_error(model, thin, graph, removed, IMAGES)


def test_what_depends_on_values_is_not_given_again() -> None:
    """A slim network that computes other probabilities draws other numbers, and is found."""
    model = network(lambda x: x * torch.bernoulli(x.mean((1, 2, 3), keepdim=True).sigmoid()))
    graph = proven_graph(model, IMAGES)
    removed = {"b": [0]}
    thin = slim(model, graph, removed)
    with torch.no_grad():
        thin.get_submodule("a").get_parameter("bias").fill_(100.0)
        thin.get_submodule("a").get_parameter("weight").zero_()
    with pytest.raises(InputError):
        slim_error(model, thin, graph, removed, IMAGES)


def test_the_report_says_so() -> None:
    pruned = daar.prune(network(DRAWN_BETWEEN["dropout"]), IMAGES, method="l1")
    (said,) = (note for note in pruned.report.notes if note.startswith("random: "))
    assert "bernoulli_ (" in said
    assert "test_draws.py:" in said
    quiet = daar.prune(network(torch.relu), IMAGES, method="l1")
    assert not [note for note in quiet.report.notes if note.startswith("random")]


@pytest.mark.parametrize("training", [False, True])
def test_dropout_off_is_no_draw(training: bool) -> None:
    q = torch.randn(1, 2, 4, 8)
    attention = Net(lambda m, x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.3 * training) * m.w.weight[0, 0],
                    w=nn.Linear(1, 1))  # fmt: skip
    assert any(map(draws, recorded(attention, q).operations)) == training


def test_a_network_that_cannot_be_repeated_is_told_so() -> None:
    dice = np.random.default_rng(0)
    with pytest.raises(InputError, match=r"other values .* the same images"):
        proven_graph(network(lambda x: x * float(dice.random())), IMAGES)


def test_seeded_leaves_all_generators_as_they_were() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    state = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
    with seeded():
        one = random.random(), np.random.rand(), float(torch.rand(()))
    with seeded():
        assert one == (random.random(), np.random.rand(), float(torch.rand(())))
    assert random.getstate() == state[0]
    assert np.random.get_state()[1].tolist() == state[1]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), state[2])


def test_kept_numbers_come_again() -> None:
    model = network(DRAWN_BETWEEN["noise"])
    kept = Draws(recorded(model, IMAGES))
    with torch.no_grad(), kept.kept(torch.device("cpu")):
        first = model(IMAGES)
    with torch.no_grad(), kept.again(torch.device("cpu"), lambda value, _: value):
        assert torch.equal(model(IMAGES), first)
    with torch.no_grad(), kept.again(torch.device("cpu"), lambda value, _: value * 2):
        assert not torch.equal(model(IMAGES), first)


@pytest.mark.parametrize("fold", [False, True])
def test_the_caller_s_random_numbers_go_on_as_if_nothing_was_drawn(fold: bool) -> None:
    model = network(DRAWN_BETWEEN["dropout"])
    nn.utils.parametrizations.weight_norm(model.get_submodule("b"))
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    expected = torch.rand(3), random.random(), np.random.rand()
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    pruned = daar.prune(model, IMAGES, method="l1", macs_reduction=0.2, fold=fold)
    assert torch.equal(torch.rand(3), expected[0])
    assert (random.random(), np.random.rand()) == expected[1:]
    assert isinstance(pruned.model.get_submodule("b"), nn.Conv2d)
