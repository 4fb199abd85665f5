"""Taylor against a network worked by hand, autograd, differences of the loss, and Torch-Pruning's w · ∂L/∂w."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daar.api import Batch, filter_gradients
from daar.pruning.groups import channel_graph
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module
from tests.oracle.torch_pruning import coupled_with, doubled, residual, scored, smooth, tp  # noqa: F401


def test_two_filters_by_hand() -> None:
    """Logits (w₁ x, 2 w₂ x) at w = (1, 1/2) are equal: ∂L/∂logits = (½, −½) for class 1, so g = x (½, −1)."""
    conv, fc = nn.Conv2d(1, 2, 1, bias=False), nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        conv.weight[:] = torch.tensor([1.0, 0.5]).view(2, 1, 1, 1)
        fc.weight[:] = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    model = nn.Sequential(conv, nn.Flatten(), fc)
    batch = Batch(torch.tensor([3.0, 3.0]).view(2, 1, 1, 1), torch.tensor([1, 1]))
    for form in ("weights", "gate"):
        assert scored("taylor", model, ["0"], batch, form=form)["0"].tolist() == pytest.approx([2.25, 2.25])
    # one image a minibatch: twice as many of them
    assert scored("taylor", model, ["0"], batch, batch_size=1)["0"].tolist() == pytest.approx([4.5, 4.5])


def test_weights_are_autograd_s_over_minibatches() -> None:
    """The loop of the authors' method 0: (w · w.grad)² summed over a filter, added up over minibatches."""
    model, image = residual()
    batch, layers = smooth(10), channel_graph(model, image).scored_layers()
    expected = {layer: torch.zeros(()) for layer in layers}
    for images, labels in zip(batch.images.split(4), batch.labels.split(4), strict=True):
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        for layer in layers:
            weight = model.get_parameter(f"{layer}.weight")
            assert weight.grad is not None
            expected[layer] = expected[layer] + (weight * weight.grad).detach().square().flatten(1).sum(dim=1)
    model.zero_grad()
    for layer, found in scored("taylor", model, layers, batch, batch_size=4).items():
        assert torch.allclose(found, expected[layer], rtol=1e-4, atol=1e-7 * float(found.max())), layer


def test_products_of_weight_and_gradient_are_torch_pruning_s(tp: Any) -> None:  # noqa: F811
    """Its criterion has |·| in place of (·)²."""
    model, image = residual()
    batch = smooth(8)
    F.cross_entropy(model(batch.images), batch.labels).backward()
    theirs = tp.importance.TaylorImportance(group_reduction="first", normalizer=None, target_types=[nn.Conv2d])
    layers = channel_graph(model, image).scored_layers()
    for layer, weight, gradient in filter_gradients(model, batch, layers):
        ours = (weight * gradient).abs().flatten(1).sum(dim=1)
        assert torch.allclose(theirs(coupled_with(tp, model, layer)), ours, rtol=1e-4, atol=1e-6), layer


def test_the_gate_is_the_difference_of_the_loss() -> None:
    """A gate behind the BN that is opened a little: scale and shift times 1 ± ε."""
    model, batch = doubled(residual()[0], smooth(6))
    found = scored("taylor", model, ["layer2.0.conv1", "layer1.0.conv2"], batch, form="gate")
    for layer, norm in (("layer2.0.conv1", "layer2.0.bn1"), ("layer1.0.conv2", "layer1.0.bn2")):
        for channel in (0, 5, 11):
            slope = (_loss(model, batch, norm, channel, 1e-6) - _loss(model, batch, norm, channel, -1e-6)) / 2e-6
            assert float(found[layer][channel]) == pytest.approx(slope**2, rel=1e-4), (layer, channel)


def _loss(model: nn.Module, batch: Batch, norm: str, channel: int, by: float) -> float:
    def gate(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        factor = torch.ones(output.shape[1], dtype=output.dtype)
        factor[channel] += by
        return output * factor[:, None, None]

    handle = model.get_submodule(norm).register_forward_hook(gate)
    with torch.no_grad():
        loss = float(F.cross_entropy(model(batch.images), batch.labels))
    handle.remove()
    return loss


def test_the_gate_is_what_scale_and_shift_s_gradients_say() -> None:
    """z multiplies γ x̂ + β, so ∂L/∂z = γ ∂L/∂γ + β ∂L/∂β."""
    model, image = residual()
    batch, layers = smooth(9), channel_graph(model, image).scored_layers()
    F.cross_entropy(model(batch.images), batch.labels).backward()
    for layer, found in scored("taylor", model, layers, batch, form="gate").items():
        norm = model.get_submodule(layer.replace("conv", "bn").replace("shortcut.0", "shortcut.1"))
        slope = torch.stack([p.detach() * p.grad for p in norm.parameters() if p.grad is not None]).sum(dim=0)
        assert torch.allclose(found, slope.square(), rtol=1e-3, atol=1e-6 * float(found.max())), layer
