"""Code and claims of docs/own-network.md, run."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import daar
from daar import models
from daar.pruning.scoring import Batch
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruned.networks import Line, Tokens, Two, made

ROOT = Path(__file__).resolve().parents[2]
X = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))
DEPTH = torch.randn(8, 1, 12, 12, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(8) % 5
IDS = torch.randint(0, 50, (8, 30), generator=torch.Generator().manual_seed(2))


def taylor() -> Any:
    text = (ROOT / "docs" / "own-network.md").read_text(encoding="utf-8")
    [block] = [b for b in re.findall(r"```py\n(.*?)```", text, re.DOTALL) if "def taylor" in b]
    held: dict[str, Any] = {}
    exec(block.split("\n\n\ndaar.prune(")[0], held)
    return held["taylor"]


class Decoder(nn.Module):
    """Up by a grouped transposed conv, and a head with hidden units."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.up = nn.Conv2d(3, 16, 3), nn.ConvTranspose2d(16, 24, 2, stride=2, groups=2)
        self.hidden, self.head = nn.Linear(24, 32), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(self.up(self.one(x).relu()).relu().mean((2, 3))).relu())


@pytest.mark.parametrize(
    ("kind", "images"),
    [(Line, X), (Decoder, X), (Two, (X, DEPTH)), (Two, {"x": X, "depth": DEPTH}), (Tokens, IDS)],
)
def test_the_documented_function_scores_layers_of_any_kind(kind: type[nn.Module], images: Any) -> None:
    model = made(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pruned = daar.prune(model, images, LABELS, method=taylor(), scope="units", macs_reduction=0.3)
    assert pruned.report.slim_error <= 1e-10
    assert pruned.report.notes == ()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_its_scores_are_those_of_the_formula() -> None:
    """By hand: |Σ w · ∂L/∂w| over a filter's weights, filters of a transposed conv in its second dimension."""
    model = made(Decoder).eval()
    nn.functional.cross_entropy(model(X), LABELS).backward()
    batch = Batch(X, LABELS)
    scores = taylor()(model, batch, ["one", "up", "hidden"])
    for layer, dims in (("one", (1, 2, 3)), ("hidden", (1,))):
        weight = model.get_parameter(f"{layer}.weight")
        torch.testing.assert_close(scores[layer], (weight * weight.grad).sum(dims).abs())  # type: ignore[operator]
    weight = model.get_parameter("up.weight")
    parts = (weight * weight.grad).chunk(2)  # type: ignore[operator]  # inputs of the two groups
    torch.testing.assert_close(scores["up"], torch.cat([part.sum((0, 2, 3)) for part in parts]).abs())


def test_the_text_of_ratios_is_that_of_a_resnet20() -> None:
    text = (ROOT / "docs" / "own-network.md").read_text(encoding="utf-8")
    assert '`"[0.]+[0.5, 0]*9"` are the 19 convs' in text
    model = enliven(models.get("resnet20").build(10))
    pruned = daar.prune(model, torch.randn(2, 3, 32, 32), method="l1", ratios="[0.]+[0.5, 0]*9")
    halved = {layer.name for layer in pruned.report.layers if layer.filters * 2 == layer.filters_dense}
    assert len(halved) == 9
    assert all(layer.filters == layer.filters_dense for layer in pruned.report.layers if layer.name not in halved)


def test_the_table_of_groups_is_what_is_printed() -> None:
    text = (ROOT / "docs" / "own-network.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```\n(\d+ groups, .*?)^```", text, re.DOTALL | re.MULTILINE)
    printed = str(daar.groups(torchvision.models.resnet18(), torch.randn(2, 3, 224, 224))).splitlines()
    assert [line.rstrip() for line in printed[:7]] == block.splitlines()
