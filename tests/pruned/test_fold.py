"""Weights that a network computes from its parameters: kept as they are, or folded into plain ones first."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import daar
from daar.errors import InputError
from daar.pruning import plan as plans


class Standardised(nn.Conv2d):
    """Its filters have mean 0 and variance 1 (Qiao et al. 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        mean, std = self.weight.mean((1, 2, 3), keepdim=True), self.weight.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, (self.weight - mean) / (std + 1e-5), self.bias, self.stride, self.padding)


def build() -> nn.Sequential:
    torch.manual_seed(0)
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(16, 24, 3, padding=1))
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), normed, nn.ReLU(), Standardised(24, 32, 3, padding=1)]
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5))


IMAGES = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def test_what_a_computed_weight_reads_stays_unless_it_is_folded() -> None:
    model = build()
    kept = daar.prune(model, IMAGES, method="l1", macs_reduction=0.2)
    assert {"0", "2"} <= kept.report.frozen.keys() | kept.report.fixed.keys()
    with pytest.raises(
        InputError, match=r"cannot be reached.* Or fold=True, which makes plain weights of those .* \(2, 4\)"
    ):
        daar.prune(model, IMAGES, method="l1", macs_reduction=0.7)
    folded = daar.prune(model, IMAGES, method="l1", macs_reduction=0.7, fold=True)
    assert folded.report.macs_reduction >= 0.7
    assert folded.report.slim_error <= 1e-10
    assert "folded: 2 layers hold plain weights now" in str(folded.report)
    assert type(folded.model[4]) is nn.Conv2d  # type: ignore[index]
    assert isinstance(model[4], Standardised), "the model itself is left as it is"


class Cosine(nn.Module):
    """Weights of length 1, of a product written as a function."""

    def __init__(self, read: int, made: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(made, read))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.rows / self.rows.abs().amax(1, keepdim=True))


class Tokens(nn.Module):
    """Channels last, in rows of which no memory is shared with the maps, or is."""

    def __init__(self, *, copied: bool) -> None:
        super().__init__()
        self.copied = copied

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).mT
        return rows.contiguous() if self.copied else rows


def normed(read: int, made: int, *, bias: bool = True) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(nn.Linear(read, made, bias=bias))


LINEAR: dict[str, Callable[[], list[nn.Module]]] = {
    "head": lambda: [nn.AdaptiveAvgPool2d(1), nn.Flatten(), normed(24, 5)],
    "head without bias": lambda: [nn.AdaptiveAvgPool2d(1), nn.Flatten(), normed(24, 5, bias=False)],
    "function": lambda: [nn.AdaptiveAvgPool2d(1), nn.Flatten(), Cosine(24, 5)],
    "rows": lambda: [Tokens(copied=True), normed(24, 5)],
    "rows of maps": lambda: [Tokens(copied=False), normed(24, 5)],
    "rows of maps without bias": lambda: [Tokens(copied=False), normed(24, 5, bias=False)],
}


@pytest.mark.parametrize("last", LINEAR.values(), ids=LINEAR)
def test_linear_layers_are_folded_too(last: Callable[[], list[nn.Module]]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3), nn.ReLU(), *last()).eval()
    kept = daar.prune(model, IMAGES, method="l1", macs_reduction=0.3)
    assert kept.report.frozen["2"].startswith(
        (
            "read by a weight that is computed of all of them, as by weight_norm (fold=True",
            "channels are taken together",
        )
    )
    whole = daar.prune(model, IMAGES, method="l1", macs_reduction=0.0, fold=True)
    assert isinstance(whole.model, nn.Sequential)
    assert type(whole.model[-1]) is nn.Linear
    assert torch.allclose(whole.model(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-5)
    folded = daar.prune(model, IMAGES, method="l1", macs_reduction=0.6, fold=True)
    assert "2" not in folded.report.frozen
    assert folded.report.slim_error <= 1e-10


def test_folding_alone_changes_nothing_that_is_computed() -> None:
    model = build().train()
    before = torch.get_rng_state()
    whole = daar.prune(model, IMAGES, method="l1", macs_reduction=0.0, fold=True)
    assert torch.allclose(whole.model(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-5)
    assert all(part.training for part in whole.model.modules())
    assert torch.equal(torch.get_rng_state(), before), "random numbers were drawn"


def test_a_network_without_such_weights_is_not_folded() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 3))
    plain = daar.prune(model, IMAGES, method="l1", macs_reduction=0.3, fold=True)
    assert not plain.plan.folded
    assert "folded" not in str(plain.report)
    assert "folded" not in plans.to_json(plain.plan)


def test_the_plan_remembers_it(tmp_path: Path) -> None:
    pruned = daar.prune(build(), IMAGES, method="l1", macs_reduction=0.6, fold=True)
    plans.save(tmp_path / "plan.json", pruned.plan)
    again = daar.slim_by(build(), IMAGES[:1], plans.load(tmp_path / "plan.json"))
    again.load_state_dict(pruned.model.state_dict())
    daar.save(pruned, tmp_path / "slim")
    loaded = daar.load(build(), tmp_path / "slim")
    with torch.no_grad():
        for other in (again, loaded):
            assert torch.equal(other.eval()(IMAGES), pruned.model.eval()(IMAGES))


def test_rounds_fold_once() -> None:
    seen: list[nn.Module] = []
    made = daar.prune_gradually(build(), IMAGES, seen.append, macs_reduction=0.6, rounds=2, method="l1", fold=True)
    assert len(seen) == 2
    assert made.plan.folded
    again = daar.slim_by(build(), IMAGES, made.plan)
    again.load_state_dict(made.model.state_dict())
