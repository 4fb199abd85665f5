"""Fisher against differences of each image's loss, hooks at what convs read, and Torch-Pruning's OBDC."""

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daar.api import Batch
from daar.pruning.groups import channel_graph
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module
from tests.oracle.torch_pruning import coupled_with, doubled, residual, scored, smooth, tp  # noqa: F401


def losses(model: nn.Module, batch: Batch, module: str, channel: int, by: float) -> Tensor:
    """Of each image, a channel of what a module makes times 1 + by."""

    def mask(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        factor = torch.ones(output.shape[1], dtype=output.dtype)
        factor[channel] += by
        return output * factor[:, None, None]

    handle = model.get_submodule(module).register_forward_hook(mask)
    with torch.no_grad():
        found = F.cross_entropy(model(batch.images), batch.labels, reduction="none")
    handle.remove()
    return found


@pytest.mark.parametrize("layer", ["layer1.0.conv1", "layer2.1.conv2"])
def test_maps_are_differences_of_each_image_s_loss(layer: str) -> None:
    """The map behind the ReLU is scaled: by the BN in front of it, or at the block's end."""
    model, batch = doubled(residual()[0], smooth(6))
    found = scored("fisher", model, [layer], batch, batch_size=4)[layer]
    module = layer.replace("conv1", "bn1").replace(".conv2", "")
    for channel in (0, 7, 15):
        up, down = (losses(model, batch, module, channel, by) for by in (1e-6, -1e-6))
        slopes = (up - down) / 2e-6
        assert float(found[channel]) == pytest.approx(float(slopes.square().sum()) / (2 * 6), rel=1e-4), channel


def test_a_group_is_what_the_masks_of_all_that_read_it_say() -> None:
    """As the authors take it: at every conv that reads the stream its input times the gradient there, summed."""
    model, batch = doubled(residual()[0], smooth(5))
    stream = ["conv1", "layer1.0.conv2", "layer1.1.conv2"]
    readers = ["layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1", "layer2.0.shortcut.0"]
    total = torch.zeros(5, 16, dtype=torch.float64)
    for reader in readers:
        kept: dict[str, Tensor] = {}

        def own(_module: nn.Module, inputs: Any, kept: dict[str, Tensor] = kept) -> tuple[Tensor]:
            kept["x"] = inputs[0].clone().requires_grad_() if not inputs[0].requires_grad else inputs[0].clone()
            kept["x"].retain_grad()
            return (kept["x"],)

        handle = model.get_submodule(reader).register_forward_pre_hook(own)
        F.cross_entropy(model(batch.images), batch.labels, reduction="sum").backward()
        handle.remove()
        assert kept["x"].grad is not None
        total += (kept["x"] * kept["x"].grad).detach().sum(dim=(2, 3))
    model.zero_grad()
    found = scored("fisher", model, [*stream, "layer1.0.conv1"], batch, form="group", batch_size=2)
    for member in stream:
        assert torch.allclose(found[member].double(), total.square().sum(dim=0) / 10, rtol=1e-4), member
    alone = scored("fisher", model, ["layer1.0.conv1"], batch)["layer1.0.conv1"]
    assert torch.allclose(found["layer1.0.conv1"], alone, rtol=1e-4), "where nothing is shared both are the same"


def test_weights_are_torch_pruning_s_obdc(tp: Any) -> None:  # noqa: F811
    """Its Fisher is the sum of squares over the images; ours is half their mean."""
    model, image = residual()
    batch, layers = smooth(4), channel_graph(model, image).scored_layers()
    found = scored("fisher", model, layers, batch, form="weights")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = tp.importance.OBDCImportance(group_reduction="first", normalizer=None, target_types=[nn.Conv2d])
        groups = {layer: coupled_with(tp, model, layer) for layer in layers}
        for layer in layers:
            conv = model.get_submodule(layer)
            theirs.modules.append(conv)
            conv.register_forward_pre_hook(theirs._save_input)
            conv.register_backward_hook(theirs._save_grad_output)
        F.cross_entropy(model(batch.images), batch.labels).backward()
        theirs.step()
        for layer in layers:
            assert torch.allclose(theirs(groups[layer]) / 8, found[layer], rtol=1e-3, atol=1e-6), layer


def test_one_channel_by_hand() -> None:
    """Logits (a, 0) with a = 2 x: for class 0 ∂L/∂a = σ(a) − 1, so Δ = ½ mean of (a (σ(a) − 1))²."""
    conv, fc = nn.Conv2d(1, 2, 1, bias=False), nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        conv.weight[:] = torch.tensor([2.0, 5.0]).view(2, 1, 1, 1)
        fc.weight[:] = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    x = torch.tensor([1.0, 0.5]).view(2, 1, 1, 1)
    found = scored("fisher", nn.Sequential(conv, nn.Flatten(), fc), ["0"], Batch(x, torch.zeros(2, dtype=torch.int64)))
    slopes = torch.tensor([2.0, 1.0]) * (torch.sigmoid(torch.tensor([2.0, 1.0])) - 1)
    assert found["0"].tolist() == pytest.approx([float(slopes.square().mean()) / 2, 0.0])
