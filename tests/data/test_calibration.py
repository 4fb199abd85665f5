import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daar.data.calibration import calibration_batch, calibration_indices
from daar.data.packed import Pack
from daar.errors import InputError

MEAN, STD = (0.5, 0.25, 0.125), (0.2, 0.3, 0.4)


def pack_of(n: int, split: str = "train") -> Pack:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 4, 5, 3), dtype=np.uint8))
    labels = torch.arange(n)
    return Pack(images, labels, tuple("abc"), MEAN, STD, "digits", split, "test", "")


@given(st.integers(0, 2**31), st.integers(1, 200), st.data())
def test_indices_are_the_beginning_of_one_permutation(seed, train_size, data):
    n = data.draw(st.integers(1, train_size))
    whole = calibration_indices("digits", seed, train_size, train_size)
    assert sorted(whole.tolist()) == list(range(train_size))
    assert calibration_indices("digits", seed, n, train_size).equal(whole[:n])


def test_indices_depend_on_dataset_and_seed_and_on_nothing_else():
    torch.manual_seed(1)
    first = calibration_indices("cifar10", 0, 640, 45_000)
    state = torch.get_rng_state()
    assert calibration_indices("cifar10", 0, 640, 45_000).equal(first)
    assert torch.get_rng_state().equal(state)
    assert not calibration_indices("cifar10", 1, 640, 45_000).equal(first)
    assert not calibration_indices("digits", 0, 640, 45_000).equal(first)


def test_indices_stay_the_same_from_version_to_version():
    assert calibration_indices("cifar10", 0, 5, 45_000).tolist() == [16539, 19757, 34626, 26748, 13369]


@pytest.mark.parametrize("n", [-1, 0, 101])
def test_more_than_there_are_is_refused(n):
    with pytest.raises(InputError, match=rf"from 1 to 100, the train part of digits, but {n} were asked for"):
        calibration_indices("digits", 0, n, 100)


def test_batch_against_numpy():
    pack = pack_of(40)
    images, labels = calibration_batch(pack, 3, 16, MEAN, STD)
    index = calibration_indices("digits", 3, 16, 40).numpy()
    expected = (pack.images.numpy()[index] / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(images.numpy(), expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    assert labels.tolist() == index.tolist()
    assert labels.dtype == torch.int64


def test_batch_comes_from_train_only():
    with pytest.raises(InputError, match="come from the train part, but this is test"):
        calibration_batch(pack_of(40, split="test"), 0, 4, MEAN, STD)
