"""Weights copied to bfloat16 at once: to the bit what autocast does by itself."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from daar import models
from daar.training.bf16_weights import Bf16Weights
from tests.networks import one_thread  # noqa: F401  # it acts on this module


class Normed(nn.Module):
    """A conv whose weight is also read in float32, another whose type is asked for, and a plain one."""

    def __init__(self) -> None:
        super().__init__()
        self.standardised, self.plain = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.standardised.weight
        weight = weight - weight.mean((1, 2, 3), keepdim=True)
        return self.plain(F.conv2d(x, weight)).mean((2, 3))


class Asks(Normed):
    """Computes in the type of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.plain(self.standardised(x)).float()
        return (y.to(self.plain.weight.dtype) * 1.001).mean((2, 3))


class Twice(Normed):
    """Uses one weight in two places."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.plain(self.plain(self.standardised(x)))
        return y.mean((2, 3))


class Again(Normed):
    """Runs a part again in the backward pass, whose gradients are not those of the copies."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.plain(self.standardised(x))
        y = checkpoint(self.plain, y, use_reentrant=True)
        return y.mean((2, 3))


class HeldElsewhere(Normed):
    """Uses a weight as its module's and as one of a list."""

    def __init__(self) -> None:
        super().__init__()
        self.held = [self.plain.weight]

    def forward(self, x: Tensor) -> Tensor:
        (weight,) = self.held
        return F.conv2d(self.plain(self.standardised(x)), weight).mean((2, 3))


class Uncached(Normed):
    """Has its weight copied for each use, so that gradients are rounded one by one."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            y: Tensor = self.plain(self.plain(self.standardised(x)))
        return y.mean((2, 3))


class Hooked(Normed):
    """Changes the gradient of a weight, and not that of another."""

    def __init__(self) -> None:
        super().__init__()
        self.plain.weight.register_hook(lambda gradient: 0.5 * gradient)

    def forward(self, x: Tensor) -> Tensor:
        return Twice.forward(self, x)  # type: ignore[arg-type]  # has the same convs


class ChangesImages(Normed):
    """Changes its images in place, its weights, and an attribute, and makes a buffer when it is first run."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0
        self.first: Tensor | None
        self.register_buffer("first", None)

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        if self.first is None:
            self.first = x.detach().mean((0, 2, 3))
        y: Tensor = self.plain(self.standardised(x.mul_(0.5).add_(self.first[:, None, None])))
        with torch.no_grad():
            self.standardised.get_parameter("bias").clamp_(-0.1, 0.1)
        return y.mean((2, 3)) * self.runs


class PartlyScripted(Normed):
    """Has a scripted part, to which no other weights can be given."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("plain", torch.jit.script(self.plain))


def of_ours(name: str) -> Callable[[], nn.Module]:
    return lambda: models.get(name).build(10)


CASES = {
    # convs and the classifier with its bias; scales of BN stay in float32
    "resnet20": (of_ours("resnet20"), 21),
    "mobilenetv2": (of_ours("mobilenetv2"), 54),  # has dropout
    "standardised": (Normed, 2),
    "type": (Asks, 0),
    "twice": (Twice, 4),
    "again": (Again, 0),
    "held elsewhere": (HeldElsewhere, 0),
    "uncached": (Uncached, 0),
    "hooked": (Hooked, 3),
    "changes images": (ChangesImages, 3),  # one bias is also read as it is
}


def both(make: Callable[[], nn.Module]) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    model = make().to(memory_format=torch.channels_last).train()
    torch.manual_seed(0)
    return model, make().to(memory_format=torch.channels_last).train()  # made, as copies have no hooks


def backward(network: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, seed: int) -> Tensor:
    torch.manual_seed(seed)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images.clone())
    loss = F.cross_entropy(logits.float(), labels)
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("case", CASES)
def test_losses_gradients_and_statistics_are_autocast_s(case: str) -> None:
    make, copied = CASES[case]
    ours, plain = both(make)
    images = torch.randn(8, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(4, (8,))
    before, given = copy.deepcopy(ours.state_dict()), images.clone()
    weights = Bf16Weights(ours, images)
    assert len(weights) == copied
    assert torch.equal(images, given)
    assert ours.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())
    for step in range(2):
        mine = backward(weights, images, labels, step)
        weights.give_gradients()
        assert torch.equal(mine, backward(plain, images, labels, step))
        for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
            assert (one.grad is None) == (other.grad is None)
            if one.grad is not None and other.grad is not None:
                assert torch.equal(one.grad, other.grad)
                assert one.grad.stride() == other.grad.stride()
        for model in (ours, plain):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
            optimizer.step()
            optimizer.zero_grad()
        assert all(torch.equal(*pair) for pair in zip(ours.buffers(), plain.buffers(), strict=True))


@pytest.mark.filterwarnings("ignore:.*torch.jit:")  # its own, of its end
def test_a_scripted_part_leaves_autocast_to_it() -> None:
    model = PartlyScripted().train()
    images = torch.randn(2, 3, 8, 8)
    weights = Bf16Weights(model, images)
    loss = backward(weights, images, torch.tensor([0, 1]), 0)
    weights.give_gradients()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert sorted(gradients) == ["plain.bias", "plain.weight", "standardised.weight"]
    model.zero_grad()
    assert torch.equal(loss, backward(model, images, torch.tensor([0, 1]), 0))
    for name, parameter in model.named_parameters():
        assert name not in gradients or torch.equal(gradients[name], parameter.grad)  # type: ignore[arg-type]


def test_frozen_weights_have_no_gradients() -> None:
    model, _ = both(Twice)
    model.get_submodule("plain").requires_grad_(False)
    images = torch.randn(2, 3, 8, 8)
    weights = Bf16Weights(model, images)
    backward(weights, images, torch.tensor([0, 1]), 0)
    weights.give_gradients()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {
        "standardised.weight", "standardised.bias",
    }  # fmt: skip
