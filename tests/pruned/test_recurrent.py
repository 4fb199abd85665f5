"""Hidden units of recurrent layers, cut with all their gates; the expected outputs by weights with zeros in them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import daar
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module

X = torch.randn(4, 1, 8, 12, generator=torch.Generator().manual_seed(0))
LAYERS: dict[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "rnn": (nn.RNN, {}),
    "gru": (nn.GRU, {}),
    "lstm": (nn.LSTM, {}),
    "gru, two layers": (nn.GRU, {"num_layers": 2}),
    "lstm, two directions": (nn.LSTM, {"bidirectional": True, "bias": False}),
}


class Reader(nn.Module):
    """Reads columns of an image from left to right, as networks for text lines do."""

    def __init__(self, kind: type[nn.RNNBase], given: dict[str, Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.read = kind(16, 32, batch_first=True, **given)  # type: ignore[arg-type]  # the base takes a mode
        self.head = nn.Linear(32 * (2 if given.get("bidirectional") else 1), 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.read(self.conv(x).relu().mean(2).transpose(1, 2))[0]).mean(1)


def reader(layer: str) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = enliven(Reader(*LAYERS[layer])).eval()
    return network


@pytest.mark.parametrize("layer", LAYERS)
def test_units_go_with_all_their_gates(layer: str, tmp_path: Path) -> None:
    """A unit that is gone is one that nothing reads: zeros in columns of its state, the layer above and the head."""
    model = reader(layer)
    pruned = daar.prune(model, X, method="l1", scope="units", ratios={"read": 0.5})
    slim = pruned.model.get_submodule("read")
    assert slim.hidden_size == 16
    [group] = [group for group in pruned.plan.groups if len(group.kept) < group.size]
    gone = sorted({*range(32)} - {*group.kept})
    dense = reader(layer).double()
    for name, value in dense.named_parameters():
        if name.startswith("read.weight_hh") or name in ("head.weight", "read.weight_ih_l1"):
            columns = [start + unit for start in range(0, value.shape[1], 32) for unit in gone]
            value.data[:, columns] = 0
    expected = dense(X.double())
    torch.testing.assert_close(pruned.model.double()(X.double()), expected, atol=1e-12, rtol=0)
    pruned.model.float().train()(X).sum().backward()  # and it can be tuned
    assert torch.backends.mkldnn.enabled
    daar.save(pruned, tmp_path)
    assert torch.equal(daar.load(reader(layer), tmp_path)(X), pruned.model.eval()(X))


@pytest.mark.parametrize("layer", ["gru", "lstm"])
@pytest.mark.parametrize("target", ["macs_reduction", "latency_reduction"])
def test_it_reaches_targets_with_any_method(layer: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daar.measure.latency.WINDOW_SECONDS", 0.01)
    given: dict[str, Any] = {target: 0.01 if target == "latency_reduction" else 0.5}
    pruned = daar.prune(reader(layer), X, method="l1", scope="units", policy="adaptive", max_ratio=0.75, **given)
    assert pruned.report.slim_error <= 1e-10
    assert int(pruned.model.get_submodule("read").hidden_size) >= 8  # type: ignore[arg-type]


def test_units_are_listed_and_stay_without_their_scope() -> None:
    for layer in ("gru", "lstm"):
        groups = daar.groups(reader(layer), X)
        units = groups["read.weight_ih_l0"]
        assert (units.size, units.scopes) == (32, ("units",))
        pruned = daar.prune(reader(layer), X, method="l1", macs_reduction=0.2)
        assert (pruned.report.macs_dense, pruned.model.get_submodule("read").hidden_size) == (groups.macs, 32)
        assert "only scope 'units' prunes" in pruned.report.frozen["read.weight_ih_l0"]
