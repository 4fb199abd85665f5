"""CP against scikit-learn's path, found by least angle regression and by coordinate descent."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso, lars_path_gram
from torch import Tensor

from daar.api import contributions
from daar.methods import discovery
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module
from tests.oracle.torch_pruning import residual, scored, smooth


def entries(gram: np.ndarray) -> Tensor:
    found: Tensor = discovery.load(discovery.get("cp"))._entries(gram)
    return found


def of_sklearn(gram: np.ndarray) -> np.ndarray:
    """λ at which each channel enters, over the largest; LARS follows the path by itself."""
    alphas, _, coefficients = lars_path_gram(gram.sum(axis=1), gram, n_samples=1, method="lasso", alpha_min=0)
    found = np.zeros(len(gram))
    for channel, path in enumerate(coefficients):
        if path.any():
            found[channel] = alphas[max(np.flatnonzero(path)[0] - 1, 0)] / alphas[0]
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_path_is_scikit_learn_s(seed: int) -> None:
    """Correlated channels, so that some leave again on the way."""
    dice = np.random.default_rng(seed)
    parts = dice.normal(size=(300, 40)) @ dice.normal(size=(40, 40))
    gram = parts.T @ parts
    assert np.abs(entries(gram).numpy() - of_sklearn(gram)).max() < 1e-6


def test_channels_above_a_penalty_are_those_that_coordinate_descent_keeps() -> None:
    dice = np.random.default_rng(0)
    parts = dice.normal(size=(200, 12)) * np.linspace(0.2, 3, 12)
    target = parts.sum(axis=1)
    largest = np.abs(parts.T @ target).max()
    found = entries(parts.T @ parts).numpy()
    for penalty in (0.9, 0.3, 0.05):
        kept = Lasso(alpha=penalty * largest / 200, fit_intercept=False, tol=1e-10, max_iter=100000).fit(parts, target)
        assert np.array_equal(kept.coef_ != 0, found > penalty), penalty


def test_equal_and_dead_channels() -> None:
    """Of two equal channels one is enough; of a dead one nothing is needed."""
    dice = np.random.default_rng(0)
    parts = dice.normal(size=(100, 4))
    parts[:, 2], parts[:, 3] = parts[:, 0], 0
    found = entries(parts.T @ parts)
    assert sorted(found[[0, 2]].tolist()) == pytest.approx([0.0, 1.0])
    assert found[3] == 0
    assert not entries(np.zeros((3, 3))).any()


def test_a_network_s_scores_are_scikit_learn_s() -> None:
    model, _ = residual()
    batch, layers = smooth(8), ["conv1", "layer1.0.conv1", "layer3.0.conv2"]
    grams = contributions(model, batch.images, layers, places=20, seed=3)
    for layer, found in scored("cp", model, layers, batch, places=20, seed=3).items():
        expected = of_sklearn(grams[layer].numpy())
        sure = (expected > 1e-3) | (found.numpy() > 1e-3)  # below, the draws do not tell channels apart
        assert sure.sum() > 8
        assert np.allclose(found.numpy()[sure], expected[sure], rtol=1e-3), layer


def test_draws_change_with_the_seed_alone() -> None:
    model, _ = residual()
    batch = smooth(4)
    one = contributions(model, batch.images, ["conv1", "layer1.0.conv1"], seed=1)["conv1"]
    assert torch.equal(contributions(model, batch.images, ["conv1"], seed=1)["conv1"], one)
    assert not torch.equal(contributions(model, batch.images, ["conv1"], seed=2)["conv1"], one)
