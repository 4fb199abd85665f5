"""Filters are what a conv ran with, also where its code computes that: seen by calls of torch.conv2d."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.prune import l1_unstructured
from torch.overrides import TorchFunctionMode

import daar
from daar.api import filters, outgoing
from daar.errors import InputError
from daar.pruning import weights
from daar.pruning.groups import graph_of
from daar.pruning.scoring import Batch
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module

C = 12
METHODS = ("l1", "fpgm", "bn_scale", "hrank", "daar", "random")


class Computed(nn.Module):
    """A conv whose weight a function computes of parameters, buffers and other convs."""

    def __init__(self, compute: Callable[[Any], Tensor], /, **parts: Any) -> None:
        super().__init__()
        self.compute = compute
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(part) if isinstance(part, Tensor) else part)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.compute(self), padding=1)


class Subclass(nn.Conv2d):
    """With a weight of its own that is not what it convolves by."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, (self.weight.abs() + 1).reciprocal(), padding=1)


def kernel() -> Tensor:
    return torch.randn(C, C, 3, 3) / 10


def crossed(m: Any) -> Tensor:
    """Written into a part of a tensor of zeros, as ACNet's branches are."""
    weight = torch.zeros_like(m.square)
    weight[:, :, :, :] = m.square
    weight[:, :, 1:2, :] += m.row
    weight[:, :, :, 1:2].add_(m.column)
    return weight


def warned(change: Callable[[nn.Module], nn.Module], layer: nn.Module) -> nn.Module:
    with pytest.warns(FutureWarning):
        return change(layer)


def central(m: Any) -> Tensor:
    return m.conv.weight - 0.7 * F.pad(m.conv.weight.sum((2, 3), keepdim=True), [1] * 4)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "two branches": lambda: Computed(
        lambda m: m.three.weight + F.pad(m.one.weight, [1] * 4), three=nn.Conv2d(C, C, 3), one=nn.Conv2d(C, C, 1)
    ),
    "a gain": lambda: Computed(lambda m: m.kernel * m.gain.view(-1, 1, 1, 1), kernel=kernel(), gain=torch.rand(C) + 1),
    "a gain called weight": lambda: Computed(
        lambda m: m.kernel * m.weight.view(-1, 1, 1, 1), kernel=kernel(), weight=torch.rand(C) + 1
    ),
    "a mask": lambda: Computed(
        lambda m: m.conv.weight * m.mask, conv=nn.Conv2d(C, C, 3), mask=(torch.rand(C, C, 3, 3) > 0.3).float()
    ),
    "signs": lambda: Computed(
        lambda m: (m.kernel.sign() - m.kernel).detach() + m.kernel, kernel=kernel()
    ),
    "a cross": lambda: Computed(
        crossed, square=kernel(), row=torch.randn(C, C, 1, 3), column=torch.randn(C, C, 3, 1)
    ),
    "central differences": lambda: Computed(central, conv=nn.Conv2d(C, C, 3)),
    "a sum of experts": lambda: Computed(
        lambda m: m.share[0] * m.a + m.share[1] * m.b, share=torch.rand(2, 1, 1, 1, 1), a=kernel(), b=kernel()
    ),
    "unit length": lambda: Computed(lambda m: F.normalize(m.kernel.flatten(1)).view_as(m.kernel), kernel=kernel()),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(C, C, 3, padding=1)),
    "the old weight norm": lambda: warned(nn.utils.weight_norm, nn.Conv2d(C, C, 3, padding=1)),
    "a pruning mask of torch": lambda: l1_unstructured(nn.Conv2d(C, C, 3, padding=1), "weight", 0.5),
    "a subclass": lambda: Subclass(C, C, 3),
    "a plain conv": lambda: nn.Conv2d(C, C, 3, padding=1),
    "a transposed conv": lambda: nn.ConvTranspose2d(C, C, 3, padding=1, groups=2),
}  # fmt: skip
PLAIN = ("weight norm", "the old weight norm", "a pruning mask of torch", "a plain conv")


def around(layer: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, C, 3, padding=1), nn.BatchNorm2d(C), nn.ReLU(), layer, nn.BatchNorm2d(C), nn.ReLU(),
        nn.Conv2d(C, C, 3, padding=1), nn.BatchNorm2d(C), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(C, 5),
    )  # fmt: skip
    enliven(net)
    return net.eval()


class Convolved(TorchFunctionMode):
    """The weights that convs are called with, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.conv2d, torch.conv_transpose2d):
            self.weights.append(args[1].detach().clone())
        return func(*args, **(kwargs or {}))


def ran(net: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.no_grad(), Convolved() as seen:
        net(x)
    return seen.weights


def as_filters(layer: str, weight: Tensor) -> Tensor:
    """Of a transposed conv of two groups, whose filters lie in the second dimension, in parts."""
    if layer != "a transposed conv":
        return weight
    return torch.cat([half.transpose(0, 1) for half in weight.chunk(2)])


@pytest.mark.parametrize("layer", LAYERS)
def test_a_function_gets_the_filters_that_the_conv_runs_with(layer: str) -> None:
    net, x = around(LAYERS[layer]()), torch.randn(4, 3, 8, 8)
    state, held = {name: value.clone() for name, value in net.state_dict().items()}, set(vars(net[3]))
    seen: dict[str, Tensor] = {}

    def own(model: nn.Module, batch: Batch, layers: Sequence[str]) -> Mapping[str, Tensor]:
        seen.update({name: filters(model, name) for name in layers})
        return {name: seen[name].abs().sum((1, 2, 3)) for name in layers}

    daar.prune(net, x, method=own, macs_reduction=0.2)
    (found,) = (value for name, value in seen.items() if name.startswith("3"))
    assert torch.equal(found, as_filters(layer, ran(net, x)[1]))
    assert state.keys() == net.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert set(vars(net[3])) == held, "nothing stays on the model"


@pytest.mark.parametrize("layer", [*PLAIN, "a transposed conv"])
def test_what_a_module_holds_itself_is_the_same_to_the_bit(layer: str) -> None:
    net = around(LAYERS[layer]())
    net(torch.randn(2, 3, 8, 8))  # the old weight norm is computed as it runs
    graph = graph_of(net, (3, 8, 8))
    alone = filters(net, "3")
    with weights.known(graph, torch.zeros(2, 3, 8, 8)):
        assert torch.equal(filters(net, "3"), alone)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layer", LAYERS)
def test_every_method_prunes_it(method: str, layer: str) -> None:
    net = around(LAYERS[layer]())
    pruned = daar.prune(net, torch.randn(4, 3, 8, 8), method=method, macs_reduction=0.1)
    assert pruned.report.slim_error <= 1e-10


def test_the_strength_by_which_channels_are_read_is_that_of_the_weights_that_ran() -> None:
    net, x = around(LAYERS["a gain"]()), torch.randn(2, 3, 8, 8)
    found = outgoing(net, x, ["0"])["0"]
    assert torch.allclose(found, ran(net, x)[1].abs().sum((0, 2, 3)))


def test_a_weight_that_depends_on_the_images() -> None:
    class Routed(nn.Module):
        """Experts weighed by the mean of what they read."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(kernel()), nn.Parameter(kernel())

        def forward(self, x: Tensor) -> Tensor:
            share = x.mean().sigmoid()
            return F.conv2d(x, share * self.a + (1 - share) * self.b, padding=1)

    net, x = around(Routed()), torch.randn(2, 3, 8, 8)
    graph = graph_of(net, (3, 8, 8))
    assert torch.equal(weights.ran_with(net, graph, x, "3").detach(), ran(net, x)[1])


def test_a_weight_that_is_given_with_the_images() -> None:
    class Given(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, C, 3)

        def forward(self, x: Tensor, weight: Tensor) -> Tensor:
            return F.conv2d(self.conv(x), weight)

    net, images = Given().eval(), (torch.randn(2, 3, 8, 8), torch.randn(2, C, 3, 3))
    assert torch.allclose(outgoing(net, images, ["conv"])["conv"], images[1].abs().sum((0, 2, 3)))


def test_outside_of_a_score_a_computed_weight_is_refused_in_one_line() -> None:
    net = around(LAYERS["two branches"]())
    with pytest.raises(InputError, match=r"^layer '3' holds no weight: the network computes it as it runs, [^\n]*$"):
        filters(net, "3")
