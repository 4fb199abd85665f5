"""ThiNet against the paper's loop on all outputs of the next layer, and against every subset there is."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daar.api import Batch, contributions
from daar.methods import discovery
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module
from tests.oracle.torch_pruning import residual, scored, smooth


def greedy(parts: Any) -> list[int]:
    """Algorithm 1 on (outputs, channels): the order in which the channels join T."""
    left = list(range(parts.shape[1]))
    taken: list[int] = []
    while left:
        errors = [np.square(parts[:, [*taken, channel]].sum(axis=1)).sum() for channel in left]
        taken.append(left.pop(int(np.argmin(errors))))
    return taken


def with_one_output(channels: int = 6) -> tuple[nn.Module, Batch, Tensor]:
    """A network whose second conv makes one number, so that all draws are that; and what each channel adds to it."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, channels, 1), nn.Conv2d(channels, 1, 4)
    model = nn.Sequential(first, nn.ReLU(), second, nn.Flatten())
    images = torch.randn(7, 3, 4, 4)
    with torch.no_grad():
        maps = F.relu(first(images))
        parts = torch.cat([F.conv2d(maps[:, [c]], second.weight[:, [c]]).flatten(1) for c in range(channels)], dim=1)
    return model.eval(), Batch(images, torch.zeros(7, dtype=torch.int64)), parts


def test_scores_are_the_steps_of_the_paper_s_loop() -> None:
    model, batch, parts = with_one_output()
    order = greedy(parts.double().numpy())
    found = scored("thinet", model, ["0"], batch, places=1)["0"]
    assert [int(found[channel]) for channel in order] == [0, 1, 2, 3, 4, 5]
    assert torch.equal(found, scored("thinet", model, ["0"], batch, places=3, seed=8)["0"])


def test_sums_over_rows_and_columns_are_the_errors_of_all_subsets() -> None:
    model, batch, parts = with_one_output()
    gram = contributions(model, batch.images, ["0"], places=2)["0"]
    for size in range(1, 7):
        for subset in itertools.combinations(range(6), size):
            error = 2 * float(parts[:, list(subset)].double().sum(dim=1).square().sum())
            assert float(gram[list(subset)][:, list(subset)].sum()) == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_is_the_loop_s_for_any_products(seed: int) -> None:
    parts = np.random.default_rng(seed).normal(size=(30, 9))
    found = discovery.load(discovery.get("thinet"))._steps(torch.from_numpy(parts.T @ parts))
    assert found.argsort().tolist() == greedy(parts)


def test_draws_are_of_all_outputs_of_the_next_conv() -> None:
    """Their mean tends to that over all outputs, which convolving channel by channel gives."""
    model, _ = residual()
    batch = smooth(4)
    layer, reader = "layer3.1.conv1", model.get_submodule("layer3.1.conv2")
    maps: dict[str, Tensor] = {}
    handle = reader.register_forward_pre_hook(lambda _, inputs: maps.update(x=inputs[0].clone()))
    with torch.no_grad():
        model(batch.images)
    handle.remove()
    weight = model.get_parameter("layer3.1.conv2.weight").detach()
    parts = torch.stack([F.conv2d(maps["x"][:, [c]], weight[:, [c]], padding=1).flatten() for c in range(64)]).double()
    exact = parts @ parts.T / parts.shape[1]
    places = 2000
    found = contributions(model, batch.images, [layer], places=places)[layer] / (4 * places)
    assert float((found - exact).norm() / exact.norm()) < 0.1


def test_channels_that_nothing_reads_are_worth_the_same_cost() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    batch = Batch(torch.randn(3, 3, 4, 4), torch.zeros(3, dtype=torch.int64))
    assert not contributions(model, batch.images, ["0"])["0"].any()
    assert scored("thinet", model, ["0"], batch)["0"].shape == (4,)
    assert not scored("cp", model, ["0"], batch)["0"].any()
