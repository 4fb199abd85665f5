"""Our optimizers against torch's own, to the bit."""

import pytest
import torch
from torch import Tensor, nn

from daar.training import optimizers
from daar.training.optimizers import Sgd
from daar.training.recipe import Recipe


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 36, 4))
    layers.register_parameter("unused", nn.Parameter(torch.ones(3)))  # gets no gradient
    return layers.to(memory_format=torch.channels_last)


def loss(model: nn.Module, step: int) -> Tensor:
    dice = torch.Generator().manual_seed(step)
    output: Tensor = model(torch.randn(16, 3, 8, 8, generator=dice))
    return output.square().mean()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("as_tensor", [True, False])
def test_it_does_what_torch_s_does(fused: bool, nesterov: bool, momentum: float, as_tensor: bool) -> None:
    if nesterov and not momentum:
        pytest.skip("torch refuses it")
    ours, theirs = network(), network()
    settings = {"momentum": momentum, "nesterov": nesterov, "weight_decay": 5e-4, "fused": fused}
    rates = (0.1, 0.1, 0.02, 0.003)
    lr = torch.tensor(0.1) if as_tensor else 0.1
    mine = Sgd(ours.parameters(), lr=lr, **settings)  # type: ignore[arg-type]
    reference = torch.optim.SGD(theirs.parameters(), lr=rates[0], **settings)  # type: ignore[arg-type]
    for step, rate in enumerate(rates):
        for group in reference.param_groups:
            group["lr"] = rate
        mine.set_lr(rate)
        for model, optimizer in ((ours, mine), (theirs, reference)):
            optimizer.zero_grad()
            loss(model, step).backward()
            optimizer.step()
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            # a tensor's lr is float32
            assert torch.allclose(one, other, rtol=1e-6) if as_tensor else torch.equal(one, other)
            held, wanted = (opt.state[p].get("momentum_buffer") for opt, p in ((mine, one), (reference, other)))
            assert (held is None) == (wanted is None)
            if held is not None and wanted is not None and not as_tensor:
                assert torch.equal(held, wanted)
                assert held.stride() == wanted.stride()


def test_adamw_is_torch_s_with_the_recipe_s_settings() -> None:
    ours, theirs = network(), network()
    recipe = Recipe(lr=0.01, optimizer="adamw", betas=(0.8, 0.95), weight_decay=0.03)
    mine = optimizers.make(recipe, ours.parameters(), torch.device("cpu"))
    reference = torch.optim.AdamW(theirs.parameters(), lr=1.0, betas=(0.8, 0.95), weight_decay=0.03, fused=True)
    for step, rate in enumerate((0.01, 0.01, 0.002)):
        mine.set_lr(rate)
        reference.param_groups[0]["lr"] = rate
        for model, optimizer in ((ours, mine), (theirs, reference)):
            optimizer.zero_grad()
            loss(model, step).backward()
            optimizer.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
        assert set(mine.state[one]) in ({*mine.names}, set())


def test_a_recipe_s_sgd_has_its_settings() -> None:
    ours, theirs = network(), network()
    mine = optimizers.make(
        Recipe(momentum=0.5, nesterov=False, weight_decay=0.1), ours.parameters(), torch.device("cpu")
    )
    reference = torch.optim.SGD(theirs.parameters(), lr=0.2, momentum=0.5, weight_decay=0.1, fused=True)
    mine.set_lr(0.2)
    for step in range(3):
        for model, optimizer in ((ours, mine), (theirs, reference)):
            optimizer.zero_grad()
            loss(model, step).backward()
            optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(ours.parameters(), theirs.parameters(), strict=True))
