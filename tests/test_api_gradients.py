"""Gradients, losses, readings and coupled parameters against autograd and layers called by hand."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from daar import models
from daar.api import Batch, coupled, filter_gradients, filters, losses, map_gradients, readings
from daar.errors import InputError
from daar.models.resnet_cifar import ResNet
from daar.pruning.groups import channel_graph
from tests.networks import enliven, one_thread  # noqa: F401  # one_thread acts on this module
from tests.test_api import convs, images, network, resnet_maps, same, state_of

LABELS = torch.tensor([3, 1, 4, 1, 9])


def batch(kind: torch.dtype = torch.float64) -> Batch:
    return Batch(images(5).to(kind), LABELS)


@pytest.mark.parametrize("name", ["resnet20", "resnet20_b", "vgg16_bn", "densenet40", "googlenet"])
@pytest.mark.parametrize("batch_size", [2, 128])
def test_gradients_of_filters_are_autograd_s(name: str, batch_size: int) -> None:
    model, data = network(name).double(), batch()
    total = {layer: torch.zeros(()) for layer in convs(model)}
    for at, (layer, weight, gradient) in enumerate(filter_gradients(model, data, convs(model), batch_size)):
        number = min(batch_size, 5 - at // len(total) * batch_size)
        assert torch.equal(weight, filters(model, layer))
        total[layer] = total[layer] + number * gradient
    F.cross_entropy(model(data.images), LABELS, reduction="sum").backward()
    for layer, found in total.items():
        expected = model.get_parameter(f"{layer}.weight").grad
        assert expected is not None
        assert (found - expected).abs().max() <= 1e-6 * expected.abs().max(), layer


def test_losses_are_torch_s() -> None:
    model, data = network("resnet20").double(), batch()
    with torch.no_grad():
        expected = F.cross_entropy(model(data.images), LABELS, reduction="none").float()
    for batch_size in (1, 2, 128):
        assert torch.allclose(losses(model, data, batch_size), expected)
    assert losses(model, data).dtype == torch.float32


def test_maps_and_their_gradients_are_those_of_hooks() -> None:
    """Behind the addition; what is differentiated by is the map itself, made by the paper's equations."""
    model, data = network("resnet20").double(), batch()
    maps = resnet_maps(model, data.images)
    pooled = maps["layer3.2.conv2"].mean(dim=(2, 3))
    F.cross_entropy(model.get_submodule("linear")(pooled), LABELS, reduction="sum").backward(inputs=list(maps.values()))
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for layer, values, gradient in map_gradients(model, data, convs(model), 2):
        found.setdefault(layer, []).append((values, gradient))
    assert set(found) == set(maps)
    for layer, parts in found.items():
        values, gradients = (torch.cat(some) for some in zip(*parts, strict=True))
        assert torch.allclose(values, maps[layer])
        assert torch.allclose(gradients, maps[layer].grad, rtol=1e-9, atol=1e-12), layer  # type: ignore[arg-type]


def test_gradients_behind_the_batch_norms_are_those_of_hooks() -> None:
    model, data = network("resnet20").double(), batch()
    kept: dict[str, Tensor] = {}

    def keep(layer: str) -> Callable[..., Tensor]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            output.retain_grad()
            kept[layer] = output
            return output.clone()

        return hook

    norms = {layer: layer.replace("conv", "bn") for layer in convs(model)}
    handles = [model.get_submodule(norm).register_forward_hook(keep(layer)) for layer, norm in norms.items()]
    F.cross_entropy(model(data.images), LABELS, reduction="sum").backward()
    for handle in handles:
        handle.remove()
    for layer, values, gradients in map_gradients(model, data, convs(model), at="norms"):
        assert torch.equal(values, kept[layer])
        assert torch.allclose(gradients, kept[layer].grad, rtol=1e-9, atol=1e-12), layer  # type: ignore[arg-type]


def test_maps_of_a_densenet_are_its_own_channels() -> None:
    """As `feature_maps` hands them out, with the gradient that a small step along it confirms."""
    model, data = network("densenet40").double(), batch()
    layer = convs(model)[1]
    ((_, values, gradients),) = map_gradients(model, data, [layer])
    assert values.shape == gradients.shape == (5, 12, 32, 32)


class Masked(nn.Module):
    """A kernel under a fixed mask: what the conv runs with is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.mask = nn.Buffer((torch.arange(2 * 3 * 9).reshape(2, 3, 3, 3) % 3 > 0).float())

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def small() -> Any:
    torch.manual_seed(0)
    return (
        nn.Sequential(
            nn.Conv2d(3, 2, 3),
            nn.ReLU(),
            nn.ConvTranspose2d(2, 4, 3, groups=2),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, groups=4),
        )
        .append(nn.Flatten())
        .append(nn.Linear(4 * 36, 3))
    )


def test_gradients_of_what_a_conv_runs_with() -> None:
    """Masked kernels, transposed convs and linear layers as `filters` gives them."""
    model = small()
    parametrize.register_parametrization(model[0], "weight", Masked())
    data = Batch(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]))
    found = {layer: (w, g) for layer, w, g in filter_gradients(model, data, ["0", "2", "6"])}
    kernel = model[0].weight.detach().requires_grad_()
    hidden = model[2](F.relu(F.conv2d(data.images, kernel, model[0].bias)))
    loss = F.cross_entropy(model[6](model[5](model[4](F.relu(hidden)))), data.labels)
    for layer, parameter in (("0", kernel), ("2", model[2].weight), ("6", model[6].weight)):
        (gradient,) = torch.autograd.grad(loss, [parameter], retain_graph=True)
        value = parameter.detach()
        if layer == "2":  # (c_in, c_out/groups, k, k) → (c_out, c_in/groups, k, k)
            value, gradient = (
                part.reshape(2, 1, 2, 3, 3).transpose(1, 2).reshape(4, 1, 3, 3) for part in (value, gradient)
            )
        assert torch.allclose(found[layer][0].squeeze(), value.squeeze()), layer
        assert torch.allclose(found[layer][1].squeeze(), gradient.squeeze(), atol=1e-7), layer
    assert found["6"][0].shape == (3, 144, 1, 1)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_caller_s_mode_does_not_matter_and_all_is_left_as_found(mode: Callable[[], Any]) -> None:
    model = network("resnet20").train()
    model.get_submodule("layer2").eval()
    model.requires_grad_(False)
    before = state_of(model)
    expected = [gradient for _, _, gradient in filter_gradients(model, batch(torch.float32), ["conv1"], 2)]
    with mode():
        data = Batch(images(5) + 0, LABELS + 0)  # in inference mode such that autograd refuses
        found = [gradient for _, _, gradient in filter_gradients(model, data, ["conv1"], 2)]
        *_, (_, maps, gradients) = map_gradients(model, data, ["conv1"])
        loss = losses(model, data)
    assert same(found, expected)
    assert not any(part.requires_grad for part in (*found, maps, gradients, loss))
    assert any(part.abs().sum() > 0 for part in found)
    assert same(state_of(model), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_network_made_in_inference_mode() -> None:
    with torch.inference_mode():
        model = enliven(ResNet(1, 10))
    ((_, _, gradient),) = filter_gradients(model, batch(torch.float32), ["conv1"])
    assert gradient.abs().sum() > 0


def test_memory_is_bounded_by_the_images_of_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def counted(logits: Tensor, *_: Any, **__: Any) -> Tensor:
        sizes.append(len(logits))
        return logits.sum(dim=1)

    monkeypatch.setattr(F, "cross_entropy", counted)
    for _ in filter_gradients(network("resnet20"), batch(torch.float32), ["conv1"], 2):
        pass
    assert sizes == [2, 2, 1]


def test_hooks_and_functions_of_autograd_are_not_called() -> None:
    model, calls = ResNet(1, 10).eval(), []
    model.register_full_backward_hook(lambda *_: calls.append(1))
    list(filter_gradients(model, batch(torch.float32), ["conv1"]))
    assert not calls


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.empty(0, dtype=torch.int64), r"whole numbers \(5,\), one for each image; got torch.int64 \(0,\)"),
        (torch.zeros(5), r"got torch.float32 \(5,\)"),
        (torch.zeros(5, 32, 32, dtype=torch.int64), r"got torch.int64 \(5, 32, 32\)"),
        (torch.tensor([0, 1, 2, 3, 10]), r"from 0 to 9, the classes of .* got 0 to 10"),
        (torch.tensor([-1, 1, 2, 3, 4]), "got -1 to 4"),
        (None, "got NoneType"),
    ],
)
def test_labels_that_do_not_fit_are_said_in_one_line(labels: Any, message: str) -> None:
    for call in (
        lambda data: losses(ResNet(1, 10), data),
        lambda data: next(filter_gradients(ResNet(1, 10), data, ["conv1"])),
        lambda data: next(map_gradients(ResNet(1, 10), data, ["conv1"])),
    ):
        with pytest.raises(InputError, match=message) as error:
            call(Batch(images(5), labels))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("head", "got"),
    [
        (nn.Conv2d(4, 2, 1), r"got \(N, 2, 6, 6\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(144, 1)), r"got \(N, 1\)"),
    ],
)
def test_a_network_without_logits_is_said(head: nn.Module, got: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), head)
    with pytest.raises(InputError, match=f"one output of logits .* {got}. Choose a method that reads no labels"):
        losses(model, Batch(torch.randn(2, 3, 8, 8), torch.tensor([0, 1])))


class Rounded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.zeta(x.abs() + 2, x.abs() + 1)


def test_an_operation_without_a_derivative_is_said() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), Rounded(), nn.Flatten(), nn.Linear(144, 2))
    with pytest.raises(
        InputError, match=r"Sequential has no gradients: .*zeta.* Choose a method that needs none"
    ) as error:
        list(filter_gradients(model, Batch(torch.randn(2, 3, 8, 8), torch.tensor([0, 1])), ["0"]))
    assert "\n" not in str(error.value)


class Looped(nn.Module):
    """Runs its images one by one, so that no number of operations serves a batch of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.fc(F.relu(self.conv(part)).mean(dim=(2, 3))) for part in x.split(1)])


def test_a_network_that_loops_over_its_images() -> None:
    model, data = Looped().double(), Batch(torch.randn(5, 3, 8, 8).double(), torch.tensor([0, 1, 2, 0, 1]))
    expected = F.cross_entropy(model(data.images), data.labels, reduction="sum").detach()
    assert float(losses(model, data).sum()) == pytest.approx(float(expected), rel=1e-6)


# what is read


@pytest.mark.parametrize("groups", [1, 2])
def test_parts_add_up_to_what_the_next_conv_makes(groups: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=groups, bias=False)
    model: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), conv, nn.ReLU(), nn.Flatten())
    x = torch.randn(3, 3, 9, 8)
    (found,) = readings(model, x, ["0"])
    made = conv(F.relu(model[0](x))).detach()
    assert (found.layer, found.reader, found.places) == ("0", "2", tuple(made.shape[2:]))
    for at in range(found.places[0] * found.places[1]):
        for output in range(6):
            parts = found.parts(torch.full((3,), at), torch.full((3,), output))
            assert parts.shape == (3, 4)
            assert torch.allclose(parts.sum(dim=1), made.flatten(2)[:, output, at], atol=1e-5)


def test_parts_of_a_linear_layer_behind_flattened_maps() -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    x = torch.randn(3, 3, 8, 8)
    (found,) = readings(model, x, ["0"])
    assert (found.places, found.inputs.shape, found.weight.shape) == ((1, 1), (3, 4, 36, 1), (5, 4, 36, 1))
    parts = found.parts(torch.zeros(3, dtype=torch.int64), torch.tensor([0, 1, 4]))
    by_hand = (F.relu(model[0](x)).flatten(2) * model[3].weight[[0, 1, 4]].reshape(3, 4, 36)).sum(dim=2)
    assert torch.allclose(parts, by_hand.detach(), atol=1e-6)


def test_all_readers_of_a_stream_and_none_of_the_depthwise_convs() -> None:
    model = network("resnet20")
    found = [(r.layer, r.reader) for r in readings(model, images(2), ["conv1", "layer1.0.conv1"])]
    stream = [f"layer1.{n}.conv1" for n in range(3)] + ["layer2.0.conv1"]
    assert sorted(found) == sorted([("conv1", r) for r in stream] + [("layer1.0.conv1", "layer1.0.conv2")])
    torch.manual_seed(0)
    separable = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Conv2d(4, 5, 1))
    x = torch.randn(2, 3, 9, 9)
    (only,) = readings(separable, x, ["0"])
    assert only.reader == "3"
    assert torch.equal(only.inputs, separable[:3](x).detach())


# what goes together


@pytest.mark.parametrize("name", ["resnet20_b", "vgg16_bn"])
def test_coupled_parameters_are_torch_pruning_s(name: str) -> None:
    """The same number of parameters goes with a channel, and the same sum of squares."""
    model, x = network(name), images(2)
    graph = channel_graph(model, x)
    found = coupled(model, x, graph.scored_layers())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch_pruning as tp

        dependencies = tp.DependencyGraph().build_dependency(model, example_inputs=x)
        for layer in graph.scored_layers()[:: 1 if name == "resnet20_b" else 4]:
            pruned = copy.deepcopy(model)
            dependencies = tp.DependencyGraph().build_dependency(pruned, example_inputs=x)
            dependencies.get_pruning_group(pruned.get_submodule(layer), tp.prune_conv_out_channels, idxs=[1]).prune()
            gone = [sum(p.numel() for p in m.parameters()) for m in (model, pruned)]
            squares = [sum(float(p.detach().double().square().sum()) for p in m.parameters()) for m in (model, pruned)]
            assert sum(part.shape[1] for part in found[layer]) == gone[0] - gone[1], layer
            ours = sum(float(part[1].double().square().sum()) for part in found[layer])
            assert ours == pytest.approx(squares[0] - squares[1], rel=1e-6), layer


def test_coupled_parameters_by_hand() -> None:
    model: Any = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2 * 4, 3))
    found = coupled(model, torch.zeros(2, 3, 2, 2), ["0"])["0"]
    shapes = [tuple(part.shape) for part in found]
    assert shapes == [(2, 3), (2, 1), (2, 1), (2, 1), (2, 12)]  # filters, bias, scale, shift, (4 places, 3 units)
    assert torch.equal(found[4][1], model[3].weight.detach()[:, 4:].T.flatten())


def test_networks_are_those_that_there_are() -> None:
    assert {"resnet20", "densenet40", "googlenet"} <= set(models.NETWORKS)
