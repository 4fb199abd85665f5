"""`max_ratio`: no layer loses more of its filters, whatever chooses the widths; these are worked out by hand."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

import daar
import daar.api
from daar.errors import InputError
from daar.pruned import Pruned
from daar.pruning.groups import graph_of
from daar.pruning.limits import LimitedGroup
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.pruned.networks import Line, made

X = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def line_macs(first: int, second: int) -> int:
    """Of `Line` on 12 × 12: two convs of 3 × 3 without padding, and the head."""
    return 100 * 9 * 3 * first + 64 * 9 * first * second + 5 * second


def widths(pruned: Pruned) -> list[int]:
    """Filters of all layers but the head, as the slim network has them."""
    return [module.weight.shape[0] for module in pruned.model.modules() if isinstance(module, nn.Conv2d)]


def line(width: int = 16) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = enliven(Line(width))
    return network


@pytest.mark.parametrize(
    ("width", "max_ratio", "expected"),
    [
        (16, 0.25, [12, 12]),
        (10, 0.7, [3, 3]),  # 1 - 0.7 is more than 0.3 in binary
        (10, np.float32(0.7), [3, 3]),
        (10, 0.71, [3, 3]),
        (10, 0.69, [4, 4]),
        (16, {"0": 0.5, "3": 0.25}, [8, 12]),
        (16, {"3": 0.25, "*": 0.5}, [8, 12]),
        (16, {"*": 0.5, "0": 0}, [16, 8]),
        (16, {"?": 0.5, "*": 0.25}, [12, 12]),  # two that say as little: the lower
        (40, 1, [2, 2]),  # the least is still 2, and 5 %
    ],
)
@pytest.mark.parametrize("policy", ["uniform", "global", "adaptive", "erk"])
def test_what_is_left_at_the_limits(width: int, max_ratio: Any, expected: list[int], policy: str) -> None:
    """The target is the most that the limits allow, so that every policy ends at them; a MAC more is refused."""
    model, dense = line(width), line_macs(width, width)
    most = Fraction(dense - line_macs(*expected), dense)
    pruned = daar.prune(
        model, X, method="l1", policy=policy, max_ratio=max_ratio, macs_reduction=math.floor(most * 10**9) / 10**9
    )
    assert widths(pruned) == expected
    assert pruned.report.macs == line_macs(*expected)
    assert pruned.report.slim_error <= 1e-10
    with pytest.raises(InputError, match=r"cannot be reached: the closest macs_reduction is 0\.\d+") as error:
        daar.prune(model, X, method="l1", policy=policy, max_ratio=max_ratio, macs_reduction=float(most) + 1e-3)
    assert ("max_ratio holds back" in str(error.value)) == (expected != [2, 2])


@pytest.mark.parametrize(
    ("ratios", "max_ratio", "expected"),
    [({"*": 0.5}, {"0": 0.25}, [12, 8]), ({"*": 0.75}, 0.5, [8, 8]), ({"0": 0.75}, 0.5, [8, 16])],
)
def test_own_ratios_end_at_the_limits(ratios: dict[str, float], max_ratio: Any, expected: list[int]) -> None:
    pruned = daar.prune(line(), X, method="l1", ratios=ratios, max_ratio=max_ratio)
    assert widths(pruned) == expected
    [said] = pruned.report.notes
    assert said == f"max_ratio: {'0, 3' if expected == [8, 8] else '0'} lost as much as it allows."


def test_a_target_of_parameters_keeps_to_them_too() -> None:
    """Convs have biases, and BN scales and shifts: 27 a + 9 a b + 3 a + 3 b + 5 b + 5."""
    params = [27 * n + 9 * n * n + 3 * n + 3 * n + 5 * n + 5 for n in (16, 12)]
    given: dict[str, Any] = {"method": "l1", "max_ratio": 0.25}
    pruned = daar.prune(line(), X, params_reduction=math.floor((1 - params[1] / params[0]) * 1e6) / 1e6, **given)
    assert (widths(pruned), pruned.report.params) == ([12, 12], params[1])
    with pytest.raises(
        InputError, match=r"closest params_reduction is 0\.397 .* max_ratio holds back 2 of 2 groups\."
    ) as e:
        daar.prune(line(), X, params_reduction=0.5, **given)
    assert "Take a smaller params_reduction, or a larger max_ratio, with which up to 0." in str(e.value)


def test_the_refusal_says_what_a_larger_one_reaches() -> None:
    with pytest.raises(InputError, match=r"max_ratio holds back 2 of 2 groups\. Take a smaller .*") as error:
        daar.prune(line(), X, method="l1", max_ratio=0.1)
    thousandths = math.floor(1000 * (1 - Fraction(line_macs(2, 2), line_macs(16, 16))))
    assert f"or a larger max_ratio, with which up to {thousandths / 1000:.3f} is reached." in str(error.value)
    assert "\n" not in str(error.value)


def lost(pruned: Pruned, model: nn.Module) -> dict[str, float]:
    """Of each layer with a weight, the fraction of its filters that went, by the networks themselves."""
    slim = dict(pruned.model.named_modules())
    return {
        name: 1 - slim[name].weight.shape[0] / module.weight.shape[0]
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    }


def uneven(model: nn.Module, batch: Any, layers: list[str]) -> dict[str, Tensor]:
    """Few filters of each layer count, so that one threshold for all takes most of some layers."""
    dice = torch.Generator().manual_seed(0)
    return {
        x: torch.rand(len(daar.api.filters(model, x)), generator=dice) ** (2 + 7 * (i % 3))
        for i, x in enumerate(layers)
    }


# streams, depthwise convs, concatenations, grouped convs, shuffles; in all of them some layers would lose more
@pytest.mark.parametrize(
    ("name", "reduction"),
    [
        ("resnet18", 0.5),
        ("mobilenet_v2", 0.4),
        ("densenet121", 0.4),
        ("regnet_y_400mf", 0.5),
        ("shufflenet_v2_x1_0", 0.3),
    ],
)
def test_no_layer_of_a_real_network_loses_more(name: str, reduction: float) -> None:
    torch.manual_seed(0)
    model, x = enliven(getattr(torchvision.models, name)()), torch.randn(2, 3, 64, 64)
    given: dict[str, Any] = {"method": uneven, "policy": "global", "macs_reduction": reduction}
    assert max(lost(daar.prune(model, x, **given), model).values()) > 0.5
    pruned = daar.prune(model, x, max_ratio=0.45, **given)
    assert max(lost(pruned, model).values()) <= 0.45
    assert reduction <= pruned.report.macs_reduction < reduction + 0.03
    assert pruned.report.slim_error <= 1e-10


def test_a_depthwise_conv_can_be_limited_by_its_own_name() -> None:
    """It makes no channels, so the expansion in front of it keeps them, and nothing else is limited."""
    torch.manual_seed(0)
    model, x = enliven(torchvision.models.mobilenet_v2()), torch.randn(2, 3, 64, 64)
    pruned = daar.prune(model, x, method=uneven, policy="global", max_ratio={"features.5.conv.1": 0.1})
    gone = lost(pruned, model)
    assert gone["features.5.conv.0.0"] == gone["features.5.conv.1.0"] <= 0.1
    assert max(gone.values()) > 0.5


@pytest.mark.parametrize(("max_ratio", "filters"), [(0.25, 18), (0.5, 12), (0.7, 9), (0.75, 6)])
def test_channels_that_hold_several_filters_are_counted_by_filters(max_ratio: float, filters: int) -> None:
    """Of 24 filters the i-th of each of three parts go together, so that at 0.7, 7.2 filters are 9."""

    class Thirds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 24, 3), nn.Conv2d(16, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            a, b, c = self.one(x).chunk(3, 1)
            return self.two(torch.cat([a + b, c], 1))

    x = torch.randn(2, 3, 8, 8)
    pruned = daar.prune(Thirds(), x, method="random", ratios={"one": 0.9}, max_ratio=max_ratio)
    assert pruned.model.get_parameter("one.weight").shape[0] == filters


def test_as_many_channels_stay_as_any_choice_of_them_needs() -> None:
    [group] = graph_of(nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 1, 1)), (1, 2, 2)).in_scope("all")
    fields = {name: getattr(group, name) for name in ("name", "channels", "members", "positions", "joins", "frozen")}
    for least, channels in ((0, 2), (1, 2), (3, 3), (4, 3), (6, 4)):  # 1 + 1 + 2 + 2 filters
        of = LimitedGroup(**fields, limits=(({0: 2, 1: 1, 2: 2, 3: 1}, least),))
        assert of.min_kept == channels
        assert of.free.min_kept == 2


def test_without_a_limit_nothing_changes() -> None:
    plain = daar.prune(line(), X, method="fpgm")
    for none in (None, 1, 1.0, {"*": 1}):
        other = daar.prune(line(), X, method="fpgm", max_ratio=none)
        assert (other.plan, str(other.report)) == (plain.plan, str(plain.report))


@pytest.mark.parametrize("max_ratio", [0.5, {"layer4": 0.25, "layer?.0.downsample": 0.3, "*": 0.75}])
def test_rounds_together_keep_to_it_and_what_is_saved_comes_back(max_ratio: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = enliven(torchvision.models.resnet18()), torch.randn(2, 3, 64, 64)
    given: dict[str, Any] = {"method": "l1", "policy": "global", "macs_reduction": 0.6}
    pruned = daar.prune_gradually(model, x, lambda _: None, max_ratio=max_ratio, rounds=3, **given)
    gone = lost(pruned, model)
    limit = dict.fromkeys(gone, 0.5)
    if isinstance(max_ratio, dict):
        limit = {name: 0.25 if name.startswith("layer4") else 0.3 if "downsample" in name else 0.75 for name in gone}
    assert all(gone[name] <= limit[name] for name in gone)
    assert any(note.startswith("max_ratio: ") for note in pruned.report.notes)
    assert max(lost(daar.prune_gradually(model, x, lambda _: None, **given), model).values()) > 0.5
    daar.save(pruned, tmp_path)
    assert torch.equal(daar.load(torchvision.models.resnet18().eval(), tmp_path)(x), pruned.model.eval()(x))


def test_rounds_that_cannot_reach_their_target_are_refused_before_any_tuning() -> None:
    given: dict[str, Any] = {"max_ratio": 0.25, "macs_reduction": 0.5, "method": "l1"}
    tuned: list[nn.Module] = []
    with pytest.raises(InputError, match=r"the closest macs_reduction is 0\.39.* holds back 2 of 2 groups"):
        daar.prune_gradually(line(), X, tuned.append, **given)
    assert not tuned


@pytest.mark.parametrize(
    ("max_ratio", "said"),
    [
        (1.5, r"max_ratio is 1.5; it must be a number in \[0, 1\], the largest fraction"),
        (-0.1, "max_ratio is -0.1; it must be a number in"),
        (float("nan"), "max_ratio is nan; it must be a number in"),
        (True, "max_ratio is True; it must be a number in"),
        ("0.5", "max_ratio is '0.5'; it must be a number in"),
        ([0.5], r"max_ratio is \[0.5\]; it must be a number in"),
        ({}, "max_ratio is empty; it must be a number"),
        ({"": 0.5}, "max_ratio has the pattern ''; it must be the name of a module"),
        ({0: 0.5}, "max_ratio has the pattern 0; it must be the name"),
        ({"0": 2}, r"max_ratio\['0'\] is 2; it must be a number in"),
        ({"0": None}, r"max_ratio\['0'\] is None; it must be a number in"),
        (
            {"layer9": 0.5},
            "max_ratio names 'layer9', but the network has no such conv or linear layer; at its top are: 0",
        ),
    ],
)
def test_what_is_wrong_is_said(max_ratio: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        daar.prune(made(Line), X, method="l1", max_ratio=max_ratio)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=said):
        daar.prune_gradually(made(Line), X, lambda _: None, method="l1", max_ratio=max_ratio)
