"""Steps on the CPU and as a CUDA graph."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from daar.models.resnet_cifar import ResNet
from daar.training import steps as stepping
from daar.training.losses import loss as loss_of
from daar.training.recipe import Recipe
from daar.training.steps import Steps
from tests.networks import one_thread  # noqa: F401  # it acts on this module

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=1, lr=0.05, batch_size=16, precision="float32")


def batches(count: int, device: torch.device = CPU) -> list[tuple[Tensor, Tensor]]:
    dice = torch.Generator().manual_seed(0)
    made = [
        (torch.randn(16, 3, 32, 32, generator=dice), torch.randint(10, (16,), generator=dice)) for _ in range(count)
    ]
    return [(images.to(device), labels.to(device)) for images, labels in made]


def as_it_is(*drawn: Tensor) -> tuple[Tensor, Tensor]:
    images, labels = drawn
    return images, labels


def network(device: torch.device = CPU) -> nn.Module:
    torch.manual_seed(0)
    return ResNet(1, 10).to(device).to(memory_format=torch.channels_last).train()


def state(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("done", [0, 2])
def test_warm_up_and_capture_can_be_taken_back(done: int) -> None:
    """What a graph's warm-up does to weights, statistics and momenta is undone in place, at a first step and later."""
    model, undisturbed = network(), network()
    steps, others = (Steps(m, RECIPE, "float32", CPU, None, as_it_is) for m in (model, undisturbed))
    first, *rest = batches(5)
    for images, labels in rest[:done]:
        steps((images, labels), 0.05)
        others((images, labels), 0.05)
    before, places = state(model), {name: value.data_ptr() for name, value in model.state_dict().items()}
    snapshot = stepping._snapshot(model, steps.optimizer)
    for _ in range(3):
        steps(first, 0.05)
    assert not same(state(model), before)
    stepping._restore(model, steps.optimizer, snapshot)
    assert same(state(model), before)
    assert {name: value.data_ptr() for name, value in model.state_dict().items()} == places
    for images, labels in rest[done:]:
        steps((images, labels), 0.02)
        others((images, labels), 0.02)
    assert same(state(model), state(undisturbed))


class Halving(nn.Module):
    """Changes its images in place."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.inside = ResNet(1, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inside(images.mul_(0.5))
        return logits


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_network_and_its_teacher_that_change_images_in_place_both_get_them_as_they_were(precision: str) -> None:
    recipe = replace(RECIPE, distillation=0.5)
    model, teacher = (Halving(seed).to(memory_format=torch.channels_last) for seed in (0, 1))
    (images, labels), *_ = batches(1)
    expected = []
    for network in (model.train(), teacher.eval()):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"), torch.no_grad():
            expected.append(copy.deepcopy(network)(images.clone()).float())
    loss, _ = Steps(model, recipe, precision, CPU, teacher, as_it_is)((images.clone(), labels), 0.05)
    assert torch.equal(loss, loss_of(expected[0], labels, expected[1], recipe))


def test_on_a_cpu_nothing_is_captured() -> None:
    steps = Steps(network(), RECIPE, "float32", CPU, None, as_it_is)
    loss, right = steps(batches(1)[0], 0.05)
    assert (loss.shape, right.shape) == ((), ())
    assert steps.path == "steps run kernel by kernel"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_captured_step_does_what_single_kernels_do(precision: str, optimizer: str) -> None:
    device, recipe = torch.device("cuda"), replace(RECIPE, optimizer=optimizer)
    captured, plain = network(device), network(device)
    graph, kernels = (Steps(m, recipe, precision, device, None, as_it_is) for m in (captured, plain))
    kernels._may_capture = False
    for images, labels in [*batches(4, device), *((i[:7], t[:7]) for i, t in batches(1, device))]:
        one, other = graph((images, labels), 0.05), kernels((images, labels), 0.05)
        assert torch.allclose(one[0], other[0], rtol=1e-2 if precision == "bf16" else 1e-4)
    assert graph.path == "steps as one CUDA graph"
    assert graph._graph is not None
    for (name, one), other in zip(captured.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.allclose(one.double(), other.double(), atol=1e-2 if precision == "bf16" else 1e-4), name
