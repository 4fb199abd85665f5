"""L2 against a filter worked by hand and against Torch-Pruning 1.6.1, which leaves the root out."""

from typing import Any

import torch
from torch import nn

from daar.pruning.groups import channel_graph
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module
from tests.oracle.torch_pruning import coupled_with, residual, scored, tp  # noqa: F401  # tp is a fixture


def test_a_filter_by_hand() -> None:
    conv = nn.Conv2d(1, 2, (1, 2), bias=True)
    with torch.no_grad():
        conv.weight[:] = torch.tensor([[3.0, -4.0], [0.0, 2.0]]).view(2, 1, 1, 2)
    assert scored("l2", nn.Sequential(conv), ["0"])["0"].tolist() == [5.0, 2.0]


def test_squares_are_torch_pruning_s_magnitude(tp: Any) -> None:  # noqa: F811
    model, image = residual()
    theirs = tp.importance.MagnitudeImportance(p=2, group_reduction="first", normalizer=None, target_types=[nn.Conv2d])
    for layer, vector in scored("l2", model, channel_graph(model, image).scored_layers()).items():
        assert torch.allclose(theirs(coupled_with(tp, model, layer)), vector.square(), rtol=1e-5), layer
