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


class Stacked(nn.Module):
    """Time first, as torch has it by itself; the second layer's state begins as zeros, a linear layer, a parameter."""

    def __init__(self, kind: type[nn.RNNBase], begins: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.first, self.second = kind(16, 24), kind(24, 32)  # type: ignore[call-arg,arg-type]  # the base takes a mode
        self.begin = nn.Linear(16, 32) if begins == "linear" else None
        self.state = nn.Parameter(torch.randn(1, 1, 32)) if begins == "parameter" else None
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu().mean(2)
        state = None if self.begin is None else self.begin(x.mean(2))[None]
        if self.state is not None:
            state = self.state.expand(-1, len(x), -1)
        given = (state, torch.zeros_like(state)) if state is not None and isinstance(self.second, nn.LSTM) else state
        return self.head(self.second(self.first(x.permute(2, 0, 1))[0], given)[0].mean(0))


def sizes(model: nn.Module, path: str) -> tuple[Any, ...]:
    """What a module says of its sizes, and what its weights do."""
    layer: Any = model.get_submodule(path)
    gates = layer.weight_hh_l0.shape[0] // (4 if isinstance(layer, nn.LSTM) else 3 if isinstance(layer, nn.GRU) else 1)
    return (layer.input_size, layer.hidden_size), (layer.weight_ih_l0.shape[1], gates)


@pytest.mark.parametrize("begins", ["zeros", "linear", "parameter"])
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_time_first_and_states_of_one_s_own(kind: type[nn.RNNBase], begins: str) -> None:
    """What the conv and both layers make goes; the sizes that modules hold follow their weights."""
    torch.manual_seed(0)
    model = enliven(Stacked(kind, begins)).eval()
    pruned = daar.prune(model, X, method="l1", scope="units", policy="uniform", macs_reduction=0.6, strict=True)
    assert pruned.report.slim_error <= 1e-10
    assert len(pruned.model.get_parameter("conv.weight")) < 16
    for path, dense in (("first", 24), ("second", 32)):
        said, are = sizes(pruned.model, path)
        assert said == are
        assert are[1] < dense
    assert daar.prune(model, X, method="l1", ratios={"conv": 0.5}).model.get_submodule("first").input_size == 8


def test_all_layers_and_directions_of_a_module_have_one_size() -> None:
    torch.manual_seed(0)
    model = Reader(nn.LSTM, {"num_layers": 2, "bidirectional": True})
    pruned = daar.prune(enliven(model).eval(), X, method="l1", scope="units", policy="uniform", macs_reduction=0.5)
    layer: Any = pruned.model.get_submodule("read")
    assert pruned.report.slim_error <= 1e-10
    assert layer.hidden_size < 32
    assert {len(layer.get_parameter(name)) for name, _ in layer.named_parameters()} == {4 * layer.hidden_size}


def test_projections_stay() -> None:
    """torch takes an LSTM whose state and cell are equally wide for one without projections."""
    torch.manual_seed(0)
    model = Reader(nn.LSTM, {"num_layers": 2, "proj_size": 24})
    model.head = nn.Linear(24, 10)
    groups = daar.groups(enliven(model).eval(), X)
    assert groups["conv"].scopes == ("inner", "all", "units")
    for name in ("read.weight_ih_l0", "read.weight_hr_l0"):
        assert groups[name].scopes == ()
        assert groups[name].why == "torch knows the projections of read by widths that must not become equal"
    pruned = daar.prune(model, X, method="l1", scope="units", policy="uniform", ratios={"conv": 0.5}, strict=True)
    assert (pruned.model.get_submodule("read").input_size, pruned.report.slim_error <= 1e-10) == (8, True)


class Looped(nn.Module):
    """Runs a cell column by column, beginning with what the cell makes itself."""

    def __init__(self, kind: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.cell = kind(16, 32)  # type: ignore[call-arg]  # the base takes a number of gates
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for column in self.conv(x).relu().mean(2).unbind(2):
            state = self.cell(column, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


@pytest.mark.parametrize(("scope", "hidden"), [("units", 16), ("all", 32)])
@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_cells(kind: type[nn.RNNCellBase], scope: str, hidden: int) -> None:
    torch.manual_seed(0)
    ratios = {"conv": 0.25, **({"cell": 0.5} if scope == "units" else {})}
    pruned = daar.prune(enliven(Looped(kind)).eval(), X, method="l1", scope=scope, ratios=ratios, strict=True)
    cell: Any = pruned.model.get_submodule("cell")
    assert (cell.input_size, cell.hidden_size) == (12, hidden)
    assert pruned.report.slim_error <= 1e-10
