"""The report on a slim network: its rows add up to its totals, and what stays is listed with why."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import daar
from daar.pruned import Pruned
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruning.test_groups import Net, conv, head


def attended(m: Any, x: Tensor) -> Tensor:
    y = m.b(m.a(x))
    rows = x.flatten(2).mT
    return m.head(((rows @ rows.mT).softmax(-1) @ y.flatten(2).mT).mean(1))


def cut(m: Any, x: Tensor) -> Tensor:
    return head(m, m.b(m.a(x).cumsum(1)))


def functional(m: Any, x: Tensor) -> Tensor:
    return head(m, m.b(torch.conv2d(m.a(x), m.kernel, padding=1)))


NETS = {"products": attended, "something kept": cut, "a parameter of the network itself": functional}


def pruned(run: Any) -> tuple[nn.Module, Pruned]:
    torch.manual_seed(0)
    net = Net(run, a=conv(3, 12), b=conv(12, 16), head=nn.Linear(16, 2))
    net.register_parameter("kernel", nn.Parameter(torch.randn(12, 12, 3, 3)))
    model = enliven(net)
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return model, daar.prune(model, images, method="l1", macs_reduction=0.3)


def counted(model: nn.Module) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.randn(1, 3, 8, 8))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("run", NETS.values(), ids=NETS)
def test_rows_add_up_to_totals_which_are_torchs(run: Any) -> None:
    model, result = pruned(run)
    report = result.report
    assert sum(row.macs_dense for row in report.layers) == report.macs_dense == counted(model)
    assert sum(row.macs for row in report.layers) == report.macs == counted(result.model)
    params = sum(p.numel() for p in result.model.parameters())
    assert report.params == params
    unused = model.get_parameter("kernel").numel() if run is not functional else 0
    assert sum(row.params_dense for row in report.layers) == report.params_dense - unused
    assert sum(row.params for row in report.layers) == params - unused
    assert len({row.name for row in report.layers}) == len(report.layers)
    assert report.macs_reduction >= 0.3
    assert math.isclose(report.macs_reduction, 1 - report.macs / report.macs_dense)


def test_what_stays_is_listed_with_why_and_where() -> None:
    _, result = pruned(cut)
    line = cut.__code__.co_firstlineno + 1
    assert result.report.frozen == {"a": f"channels are taken together: cumsum ({__file__}:{line})"}
    assert f"a stays whole: channels are taken together: cumsum ({__file__}:{line})" in str(result.report)
