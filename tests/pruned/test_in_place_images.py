"""Networks that change their images in place, also through a view: the caller's stay as they are."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import daar
from daar.measure.finite import require_finite_output
from daar.training.recalibrate import recalibrate


class Changes(nn.Module):
    """Two convs behind a change of the images."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        change = {
            "directly": lambda: x.mul_(2),
            "a slice": lambda: x[:, :, 1:].mul_(2),
            "a row of a view": lambda: x.flatten(2)[:, 1].add_(1),
            "an assignment": lambda: x.__setitem__((slice(None), 0), 0.5),
            "a view of all": lambda: x.view(-1).mul_(0.5),
        }
        change[self.kind]()
        logits: Tensor = self.head(self.second(self.first(x).relu_()).mean((2, 3)))
        return logits


@pytest.mark.parametrize("kind", ["directly", "a slice", "a row of a view", "an assignment", "a view of all"])
@pytest.mark.parametrize("method", ["l1", "hrank", "taylor", "daar"])
def test_they_are_pruned_as_others_and_images_stay(kind: str, method: str) -> None:
    torch.manual_seed(0)
    model, images, labels = Changes(kind).eval(), torch.randn(40, 3, 8, 8), torch.randint(5, (40,))
    before = images.clone()
    given: dict[str, Any] = {"labels": labels, "method": method, "policy": "adaptive", "macs_reduction": 0.5}
    pruned = daar.prune(model, images, **given)
    assert torch.equal(images, before)
    assert pruned.report.slim_error <= 1e-10
    # the same network written without the change, on changed images
    with torch.no_grad():
        changed = before.clone()
        model(changed)
        same = Changes("directly").eval()
        same.load_state_dict(model.state_dict())
    again = daar.prune(same, changed / 2, **given)
    assert again.plan.groups == pruned.plan.groups


@pytest.mark.parametrize("run", [require_finite_output, recalibrate])
def test_calibration_images_stay(run: Callable[[nn.Module, Tensor], None]) -> None:
    images = torch.randn(8, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    run(Changes("directly"), images)
    assert torch.equal(images, before)
