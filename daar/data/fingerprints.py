"""Compares images with the official release of their data set, by a hash of each image: we may not ship the images.

`<dataset>_fingerprints.npz` holds two sorted uint32 arrays: `official`, fingerprints of all images whose official
pixels we could obtain, and `lossy`, those of the JPEG copies that replace the rest in the common Parquet files. For
CIFAR-10 these are 59,889 and 111 (tests/data/test_cifar10.py computes them again), for CIFAR-100 all 60,000 and none.
CIFAR-100's were computed from pixels and labels that give, in the order of the release, the SHA-1 that MXNet's Gluon
(python/mxnet/gluon/data/vision/datasets.py) states for both files of cifar-100-binary.tar.gz: train.bin
e207cd2e05b73b1393c74c7f5e7bea451d63e08e, which tests/data/test_cifar100.py compares with the Parquet files, and
test.bin 8fb6623e830365ff53cf14adec797474f5478006, for which the images had to be put in the order of the release's
labels.
"""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from daar.data.datasets import Dataset
from daar.data.splits import Images, Labels

Fingerprints = npt.NDArray[np.uint32]


def fingerprints(images: Images, labels: Labels) -> Fingerprints:
    """The first 32 bits of the SHA-256 of each image's pixels and its label's byte.

    Args:
        images: (N, H, W, C).
        labels: (N,), at most 255.

    Returns:
        (N,), in the order of the images. Among 60,000 images about one in 70,000 foreign ones is mistaken
        for an official one, which is enough to note a difference and small enough to ship.
    """
    digests = (
        hashlib.sha256(image.tobytes() + bytes([label])).digest() for image, label in zip(images, labels, strict=True)
    )
    return np.array([int.from_bytes(digest[:4], "big") for digest in digests], dtype=np.uint32)


def compare(dataset: Dataset, images: Images, labels: Labels) -> str:
    """How the images differ from the official release, in words; a difference is noted, never refused.

    Args:
        dataset: that they should be.
        images: (N, H, W, C), all images of all parts, in any order.
        labels: (N,).

    Returns:
        A phrase for the reports, such as "111 images differ from the official release (JPEG copies)".
    """
    path = Path(__file__).with_name(f"{dataset.name}_fingerprints.npz")
    if not path.exists():
        return "no official fingerprints to compare with"
    with np.load(path) as known:
        official, lossy = known["official"], known["lossy"]
    ours = fingerprints(images, labels)
    missing = len(official) - _in_common(official, ours)
    copies = _in_common(lossy, ours)
    if missing + copies == 0:
        total = sum(dataset.official.values())
        checkable = "" if len(official) == total else f" ({len(official):,} of {total:,} images can be checked)"
        return f"matches the official release{checkable}"
    number = "1 image differs" if missing + copies == 1 else f"{missing + copies:,} images differ"
    kind = "" if missing else " (JPEG copies)"
    return f"{number} from the official release{kind}"


def _in_common(first: Fingerprints, second: Fingerprints) -> int:
    """Size of the multiset intersection: a fingerprint counts as often as both have it."""
    values, counts = np.unique(first, return_counts=True)
    others, other_counts = np.unique(second, return_counts=True)
    _, at, other_at = np.intersect1d(values, others, assume_unique=True, return_indices=True)
    return int(np.minimum(counts[at], other_counts[other_at]).sum())
