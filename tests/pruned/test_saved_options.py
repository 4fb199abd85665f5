"""Whatever `daar.prune` was asked for, the folder and the plan give the same network again."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import daar
from daar.pruning import plan as plans
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module

X = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))


class Many(nn.Module):
    """A stream, computed weights, hidden units, and a width that the code holds."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 16
        self.a, self.b, self.c = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.b = nn.utils.parametrizations.weight_norm(self.b)
        self.hidden, self.head = nn.Linear(16, 24), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        x = x + self.c(self.b(x).relu())
        x = x.mean((2, 3)).view(-1, self.width)
        return self.head(self.hidden(x).relu())


def score(model: nn.Module, batch: Any, layers: Any) -> Mapping[str, Tensor]:
    return {layer: torch.rand(len(model.get_submodule(layer).weight)) for layer in layers}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given",
    [
        {"scope": "inner"},
        {"scope": "all"},
        {"scope": "units"},
        {"scope": "units", "fold": True},
        {"fold": True},
        {"params_reduction": 0.3},
        {"ratios": {"b": 0.5}},
        {"ratios": {"hidden": 0.25}, "scope": "units"},
        {"ratios": "[0.5]+[0.25]*2"},
        {"exclude": ["c"]},
        {"min_channels": 5, "macs_reduction": 0.6},
        {"round_to": 4},
        {"policy": "global"},
        {"policy": "adaptive", "policy_options": {"adjust": False}},
        {"method": score},
        {"method": functools.partial(score)},
        {"latency_reduction": 0.1},
    ],
    ids=lambda given: " ".join(f"{key}={type(value) if callable(value) else value}" for key, value in given.items()),
)
def test_all_options_come_back(given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "latency_reduction" in given:  # of a network so small nothing can be measured
        monkeypatch.setattr("daar.pruned.once.by_latency", lambda made, *_, **__: (made(0.3), None))
    torch.manual_seed(0)
    model = enliven(Many())
    target = {} if set(given) & {"params_reduction", "latency_reduction", "ratios"} else {"macs_reduction": 0.2}
    pruned = daar.prune(model, X, **{"method": "l1", **target, **given})
    assert pruned.report.params < pruned.report.params_dense
    daar.save(pruned, tmp_path / "slim")
    torch.manual_seed(1)
    again = daar.load(Many(), tmp_path / "slim")
    with torch.no_grad():
        assert torch.equal(again.eval()(X), pruned.model.eval()(X))
    plans.save(tmp_path / "plan.json", pruned.plan)
    assert plans.load(tmp_path / "plan.json") == pruned.plan
