import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from daar.data.splits import allocate, packed_order, split

COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any)


def images_of(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=3)


def test_packed_order_is_by_hash_of_the_pixels_then_label():
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    images[10] = images[3]
    labels = np.arange(50)[::-1].copy()
    by_hand = sorted(range(50), key=lambda i: (hashlib.sha256(images[i].tobytes()).hexdigest(), labels[i]))
    order = packed_order(images, labels).tolist()
    assert order == by_hand
    assert order.index(10) == order.index(3) - 1  # equal pixels: the lower label first


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=30), st.randoms())
def test_packed_order_does_not_depend_on_the_order_of_rows(rows, random):
    def packed(rows):
        images, labels = images_of([value for value, _ in rows]), np.array([label for _, label in rows])
        order = packed_order(images, labels)
        return images[order].tobytes(), labels[order].tobytes()

    shuffled = random.sample(rows, len(rows))
    assert packed(rows) == packed(shuffled)


@given(COUNTS, st.data())
def test_allocate_is_exact_and_within_one_of_the_quota(counts, data):
    total = data.draw(st.integers(0, sum(counts)))
    shares = allocate(total, counts)
    assert sum(shares) == total
    for share, count in zip(shares, counts, strict=True):
        assert 0 <= share <= count
        assert abs(share - total * count / sum(counts)) < 1


def test_allocate_by_hand():
    assert allocate(5_000, [5_000] * 10) == [500] * 10
    # quotas 1.5, 1.5, 1.0: the one left over goes to the lower label of two equal remainders
    assert allocate(4, [3, 3, 2]) == [2, 1, 1]
    # quotas 0.4, 1.9, 0.7
    assert allocate(3, [4, 19, 7]) == [0, 2, 1]


@given(st.lists(st.integers(0, 3), min_size=8, max_size=60), st.integers(0, 4), st.integers(0, 4))
def test_split_takes_the_first_of_each_class_in_turn(labels, test, val):
    labels = np.array(labels)
    masks = split(labels, 4, {"test": test, "val": val})
    assert (np.stack(list(masks.values())).sum(axis=0) == 1).all()
    assert masks["test"].sum() == test
    assert masks["val"].sum() == val
    for label in range(4):
        of_class = [name for i in np.flatnonzero(labels == label) for name in masks if masks[name][i]]
        assert of_class == sorted(of_class, key=["test", "val", "train"].index)


def test_digits_split_against_largest_remainder_in_fractions():
    labels = load_digits().target
    left = np.bincount(labels)
    masks = split(labels, 10, {"test": 360, "val": 180})
    for name, size in (("test", 360), ("val", 180)):
        quotas = size * left / left.sum()
        by_hand = np.floor(quotas).astype(int)
        by_hand[np.argsort(-(quotas % 1), kind="stable")[: size - by_hand.sum()]] += 1
        assert np.bincount(labels[masks[name]]).tolist() == by_hand.tolist()
        left = left - by_hand
    assert masks["train"].sum() == 1_257
