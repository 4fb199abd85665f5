"""The moving average of weights, against its recursion in numpy."""

import numpy as np
import pytest
import torch
from torch import nn

from daar.training import optimizers
from daar.training.recipe import Recipe
from daar.training.trained import Trained

CPU = torch.device("cpu")


def trained(ema: float) -> Trained:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    return Trained(model, optimizers.make(Recipe(), model.parameters(), CPU), ema)


@pytest.mark.parametrize("decay", [0.05, 0.5, 0.999])
def test_it_is_the_recursion_with_its_warm_up(decay: float) -> None:
    one = trained(decay)
    expected: dict[str, np.ndarray] = {}
    for step in range(12):
        with torch.no_grad():
            for value in one.model.state_dict().values():
                value.copy_(torch.randn(value.shape) if value.is_floating_point() else torch.tensor(step))
        one.add_step()
        share = min(decay, (1 + step) / (10 + step)) if step else 0.0
        for name, value in one.model.state_dict().items():
            present = value.double().numpy()
            expected[name] = share * expected.get(name, 0) + (1 - share) * present
    expected["1.num_batches_tracked"] = np.array(11)
    for name, value in one.result.state_dict().items():
        assert np.allclose(value.numpy(), expected[name], atol=1e-6), name
    before = {name: value.clone() for name, value in one.result.state_dict().items()}
    one.finish()
    assert all(torch.equal(value, before[name]) for name, value in one.model.state_dict().items())


def test_without_decay_the_result_is_the_network_itself() -> None:
    one = trained(0.0)
    one.add_step()
    one.finish()
    assert one.result is one.model
    assert one.models == (one.model,)


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
def test_a_network_whose_weights_are_computed_is_averaged_too() -> None:
    """torch copies no tensor that was computed of parameters, as `weight_norm` holds one."""
    normed = nn.utils.weight_norm(nn.Linear(3, 3))
    model = nn.Sequential(normed, nn.Linear(3, 2))
    one = Trained(model, optimizers.make(Recipe(), model.parameters(), CPU), 0.5)
    with torch.no_grad():
        normed.get_parameter("weight_g").mul_(2)
    one.add_step()
    images = torch.randn(4, 3)
    assert torch.equal(one.result(images), model(images))
