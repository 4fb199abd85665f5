"""Mixup and CutMix as parts of a training's batches, against their equations by hand."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from daar.data import packed
from daar.training.batch_protocol import Batches
from daar.training.batches import Data
from daar.training.recipe import Recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(digits: Path) -> Data:
    train, val = (packed.load(digits / f"{split}.safetensors") for split in ("train", "val"))
    return Data(train, val, train.mean, train.std, flip=False)


def of(data: Data, seed: int = 0, mixup: float = 0.0, cutmix: float = 0.0) -> Batches:
    return data.batches(Recipe(batch_size=64, mixup=mixup, cutmix=cutmix), seed, CPU)


def first(batches: Batches, epoch: int = 0, step: int = 0) -> tuple[Tensor, Tensor]:
    return batches.make(*next(batches.epoch(epoch, step)))


def test_mixup_is_eq_1_with_one_share_a_batch(data: Data) -> None:
    (plain, labels), (images, shares) = first(of(data)), first(of(data, mixup=0.4))
    assert shares.shape == (64, 10)
    assert torch.allclose(shares.sum(1), torch.ones(64))
    other = torch.nn.functional.one_hot(labels, 10).float().roll(1, 0)
    own = torch.nn.functional.one_hot(labels, 10).float()
    differ = (labels != labels.roll(1, 0)).nonzero()[0, 0]
    share = float(shares[differ, labels[differ]])
    assert 0 < share < 1
    assert torch.allclose(shares, share * own + (1 - share) * other, atol=1e-6)
    assert torch.allclose(images, share * plain + (1 - share) * plain.roll(1, 0), atol=1e-5)


def test_cutmix_pastes_one_rectangle_and_shares_labels_by_its_area(data: Data) -> None:
    (plain, labels), (images, shares) = first(of(data)), first(of(data, cutmix=1.0))
    pasted = (images != plain).any(1).any(0)  # where some image has another's pixel
    rows, columns = (pasted.any(1 - axis).nonzero().flatten() for axis in (0, 1))
    box = (
        slice(None),
        slice(None),
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )
    expected = plain.clone()
    expected[box] = plain.roll(1, 0)[box]
    assert torch.equal(images, expected)
    differ = (labels != labels.roll(1, 0)).nonzero()[0, 0]
    # digits are black at their sides, where a rectangle cannot be seen
    assert float(shares[differ, labels.roll(1, 0)[differ]]) >= len(rows) * len(columns) / 32**2 - 1e-6


def test_what_is_mixed_follows_from_seed_epoch_and_step(data: Data) -> None:
    again, other_seed = of(data, 0, 0.4, 1.0), of(data, 1, 0.4, 1.0)
    inorder = [one for one, _ in zip(again.epoch(2, 0), range(4), strict=False)]
    later = next(of(data, 0, 0.4, 1.0).epoch(2, 3))
    assert all(torch.equal(a, b) for a, b in zip(later, inorder[3], strict=True))
    assert not torch.equal(first(again)[1], first(other_seed)[1])
    assert not torch.equal(first(again, 0)[1], first(again, 1)[1])


def test_with_both_each_batch_has_one_of_them(data: Data) -> None:
    both = of(data, mixup=1.0, cutmix=1.0)
    plain = of(data)
    cut = 0
    for (images, _), (whole, _) in zip(
        (both.make(*d) for d in both.epoch(0, 0)), (plain.make(*d) for d in plain.epoch(0, 0)), strict=True
    ):
        other = whole.roll(1, 0)
        cut += bool(((images == whole) | (images == other)).all())
    assert 0 < cut < both.steps


def test_the_generator_of_all_is_left_as_it_was(data: Data) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first(of(data, mixup=1.0))
    assert torch.equal(torch.rand(2), expected)
