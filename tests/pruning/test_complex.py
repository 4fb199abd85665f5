"""Networks of complex numbers: filters in a spectrum, outputs that are complex."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import daar
from daar.pruning.proof import InexactError, prove
from daar.pruning.repairing import proven_graph
from daar.pruning.slim import slim
from tests.judge import apart, drawn, filters_gone, filters_of, masked, outputs
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruning.test_groups import conv

ENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "real": lambda y: y,
    "complex": lambda y: torch.complex(y, y * 2),
    "conjugate": lambda y: torch.complex(y, y * 2).conj(),
    "spectrum": torch.fft.fft,
}
IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Spectral(nn.Module):
    """A global filter (Rao et al. 2021) that is held as complex numbers, before all other parameters."""

    def __init__(self, end: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.filter = nn.Parameter(torch.randn(12, 8, 5, dtype=torch.complex64) / 3)
        self.a, self.b, self.fc = conv(3, 12), conv(12, 6), nn.Linear(6, 4)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        y = torch.fft.irfft2(torch.fft.rfft2(self.a(x).relu()) * self.filter, s=(8, 8))
        return ENDS[self.end](self.fc(self.b(y).relu().mean((2, 3))))


@pytest.mark.parametrize("end", ENDS)
def test_filters_of_a_spectrum_are_pruned_exactly(end: str) -> None:
    model = enliven(Spectral(end))
    graph = proven_graph(model, IMAGES[:2])
    assert {group.name: group.frozen for group in graph.groups} == {"a": None, "b": None}
    reads = {"b": filters_of("a", range(12)), "fc": filters_of("b", range(6))}
    for seed in range(3):
        removed = drawn(graph, seed)
        thin = slim(model, graph, removed)
        assert thin.get_parameter("filter").shape == (12 - len(removed["a"]), 8, 5)
        assert prove(model, thin, graph, removed, IMAGES).error <= 1e-10
        assert apart(outputs(thin, IMAGES), masked(model, IMAGES, filters_gone(graph, removed), reads)) <= 1e-10


def test_complex_outputs_that_differ_are_seen() -> None:
    model = enliven(Spectral("complex"))
    graph = proven_graph(model, IMAGES[:2])
    thin = slim(model, graph, {"a": [1, 2]})
    with torch.no_grad():
        thin.get_parameter("fc.bias").add_(0.01)
    with pytest.raises(InexactError, match="differs from the masked one"):
        prove(model, thin, graph, {"a": [1, 2]}, IMAGES)


@pytest.mark.parametrize("method", ["daar", "l1", "hrank"])
def test_daar_prune_takes_such_networks(method: str) -> None:
    pruned = daar.prune(enliven(Spectral("spectrum")), IMAGES, method=method, macs_reduction=0.4)
    assert pruned.report.macs_reduction >= 0.4
    assert pruned.report.slim_error <= 1e-10
    assert pruned.model(IMAGES).dtype is torch.complex64
