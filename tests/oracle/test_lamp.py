"""LAMP's scores against Torch-Pruning's, and its plan against the definition: one threshold for all layers."""

from typing import Any

import numpy as np
import pytest
import torch

from daar.errors import InputError
from daar.methods import discovery
from daar.pruning import importance as shares
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import channel_graph
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module
from tests.oracle.torch_pruning import residual, scored, tp  # noqa: F401  # tp is a fixture


def by_definition(magnitudes: np.ndarray) -> np.ndarray:
    """W[u]² / Σ W[v]² over v with W[v] ≥ W[u]; equal ones in their order, as a sort puts them."""
    order = np.argsort(-magnitudes, kind="stable")
    return np.asarray([magnitudes[u] ** 2 / np.square(magnitudes[order[: i + 1]]).sum() for i, u in enumerate(order)])


def test_scores_by_hand() -> None:
    """Magnitudes 3, 2, 1: 9/9, 4/13, 1/14."""
    adapted = discovery.load(discovery.get("lamp"))._adapted(np.asarray([3.0, 2.0, 1.0]))
    assert adapted.tolist() == pytest.approx([1, 4 / 13, 1 / 14])


def test_scores_are_torch_pruning_s(tp: Any) -> None:  # noqa: F811
    norms = torch.rand(50, generator=torch.Generator().manual_seed(0)) + 0.1
    theirs = tp.importance.LAMPImportance()._lamp(norms.square())
    ordered = norms.sort(descending=True)
    ours = discovery.load(discovery.get("lamp"))._adapted(ordered.values.double().numpy())
    assert np.allclose(theirs[ordered.indices].numpy(), ours, rtol=1e-5)


@pytest.mark.parametrize("reduction", [0.2, 0.5, 0.7])
@pytest.mark.parametrize("method", ["lamp", "l1"])
def test_one_threshold_parts_what_stays_from_what_goes(reduction: float, method: str) -> None:
    """At least what the lowest threshold within the target keeps; what is left of the target is filled up."""
    model, image = residual()
    graph = channel_graph(model, image)
    groups = graph.in_scope("all")
    worth = shares.group_importance(groups, scored(method, model, graph.scored_layers()))
    macs = ClosedForm(graph, {g.name: shares.ranking(g, worth[g.name]) for g in groups})
    budget = int((1 - reduction) * macs({}))
    plan = discovery.load(discovery.get("lamp")).plan
    counts = plan(groups, worth, budget, macs=macs, loss=None)
    adapted = {group.name: by_definition(worth[group.name]) for group in groups}
    least: dict[str, int] = {}
    for threshold in sorted(np.concatenate(list(adapted.values()))):
        least = {g.name: max(g.min_kept, int((adapted[g.name] >= threshold).sum())) for g in groups}
        if macs(least) <= budget:
            break
    assert all(counts[name] >= least[name] for name in least)
    assert budget - 0.002 * macs({}) <= macs(counts) <= budget
    scaled = {g.name: worth[g.name] * 7 for g in groups}
    assert plan(groups, scaled, budget, macs=macs, loss=None) == counts, "a factor common to a group cancels"


def test_without_a_target_it_says_so() -> None:
    with pytest.raises(InputError, match=r"policy 'lamp' has no rate of its own. Give a target"):
        discovery.load(discovery.get("lamp")).plan([], {}, None, macs=None, loss=None)
