"""The packed order and the splits: the same for every source of the same images."""

import hashlib

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


def packed_order(images: Images, labels: Labels) -> Labels:
    """The order of the packed files: by the SHA-256 of an image's bytes, then by label.

    Args:
        images: (N, H, W, C).
        labels: (N,).

    Returns:
        (N,) indices. Ties have equal bytes and equal labels, so the packed file is the same either way.
    """
    keys = [(hashlib.sha256(image.tobytes()).digest(), int(label)) for image, label in zip(images, labels, strict=True)]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def allocate(total: int, counts: list[int]) -> list[int]:
    """Distribute `total` over the classes in proportion to their counts, by largest remainder.

    Args:
        total: images to take in all; at most the sum of `counts`.
        counts: images per class.

    Returns:
        Images to take per class, which sum to `total`. Of equal remainders the lower label comes first.
    """
    available = sum(counts)
    shares = [total * count // available for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda label: (-(total * counts[label] % available), label))
    for label in by_remainder[: total - sum(shares)]:
        shares[label] += 1
    return shares


def first_per_class(labels: Labels, take: list[int], free: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Mark, of each class, the first images that are still free.

    Args:
        labels: (N,), in packed order.
        take: images to take per class.
        free: (N,), whether an image may be taken.

    Returns:
        (N,) mask of the images taken.
    """
    taken = np.zeros(len(labels), dtype=np.bool_)
    for label, count in enumerate(take):
        taken[np.flatnonzero(free & (labels == label))[:count]] = True
    return taken


def split(labels: Labels, num_classes: int, sizes: dict[str, int]) -> dict[str, npt.NDArray[np.bool_]]:
    """Hold images out of one official part; the rest is train.

    Args:
        labels: (N,), in packed order.
        num_classes: number of classes.
        sizes: images to hold out per split, such as {"test": 360, "val": 180}. Per class the first images go to the
            first split, the next ones to the second; each split takes classes in proportion to the images left.

    Returns:
        A mask (N,) per split: those in `sizes`, and "train".
    """
    free = np.ones(len(labels), dtype=np.bool_)
    masks = {}
    for name, size in sizes.items():
        counts = np.bincount(labels[free], minlength=num_classes).tolist()
        masks[name] = first_per_class(labels, allocate(size, counts), free)
        free = free & ~masks[name]
    return {**masks, "train": free}
