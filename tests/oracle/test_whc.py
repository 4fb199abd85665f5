"""WHC against scipy's cosine distances, as the authors' code has them, and against filters worked by hand."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import nn

from daar.pruning.groups import channel_graph
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module
from tests.oracle.torch_pruning import residual, scored


def test_three_filters_by_hand() -> None:
    """(2, 0), (0, 3) and (0, −1): a right angle counts in full, opposite filters count as alike."""
    conv = nn.Conv2d(2, 3, 1)
    with torch.no_grad():
        conv.weight[:] = torch.tensor([[2.0, 0.0], [0.0, 3.0], [0.0, -1.0]]).view(3, 2, 1, 1)
    assert scored("whc", nn.Sequential(conv), ["0"])["0"].tolist() == pytest.approx([2 * 3 + 2 * 1, 6.0, 2.0])


def test_sums_are_scipy_s() -> None:
    model, image = residual()
    for layer, found in scored("whc", model, channel_graph(model, image).scored_layers()).items():
        rows = model.get_parameter(f"{layer}.weight").detach().double().flatten(1).numpy()
        norms = np.diag(np.linalg.norm(rows, axis=1))
        apart = 1 - np.abs(1 - cdist(rows, rows, "cosine"))
        assert np.allclose(found.numpy(), (norms @ apart @ norms).sum(axis=0), rtol=1e-5), layer


def test_a_filter_of_zeros_is_worth_nothing() -> None:
    conv = nn.Conv2d(2, 3, 1)
    with torch.no_grad():
        conv.weight[1] = 0
    found = scored("whc", nn.Sequential(conv), ["0"])["0"]
    assert found[1] == 0
    assert torch.isfinite(found).all()
