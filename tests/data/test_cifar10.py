"""The real CIFAR-10, if it is there: under DAAR_DATA_ROOT, or next to the checkout."""

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import daar.data
from daar.data import readers
from daar.data.datasets import get
from daar.data.fingerprints import compare, fingerprints
from daar.data.pack_files import SPLITS
from daar.data.packed import check, load, prepare
from daar.data.readers import Part
from daar.data.sources import locate
from daar.errors import InputError

ROOT = Path(os.environ.get("DAAR_DATA_ROOT") or Path(__file__).parents[3] / "shared" / "data")
CIFAR10 = get("cifar10")
FOUND = locate(CIFAR10, ROOT)

pytestmark = pytest.mark.skipif(FOUND is None or FOUND.kind != "parquet", reason="no CIFAR-10 in Parquet files here")


@pytest.fixture(scope="module")
def parts() -> dict[str, Part]:
    assert FOUND is not None
    return readers.read(FOUND, CIFAR10)


@pytest.fixture(scope="module")
def packed(parts: dict[str, Part], tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "read", lambda *_: parts)  # decoded once for all tests
        return prepare(CIFAR10, tmp_path_factory.mktemp("cifar10"), data_root=ROOT)


@pytest.fixture(scope="module")
def lossy_rows() -> dict[str, list[int]]:
    assert FOUND is not None
    return json.loads((FOUND.path / "jpeg_rows.json").read_text())


def everything(parts: dict[str, Part]) -> Part:
    return Part(
        np.concatenate([part.images for part in parts.values()]),
        np.concatenate([part.labels for part in parts.values()]),
    )


def test_labels_are_in_the_original_order(parts):
    assert parts["train"].labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert parts["test"].labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]


def test_counts_per_class_and_the_note(packed):
    report = check(packed)
    assert report.counts == {
        name: dict.fromkeys(CIFAR10.classes, count) for name, count in (("train", 4_500), ("val", 500), ("test", 1_000))
    }
    assert report.comparison == report.source["note"] == "111 images differ from the official release (JPEG copies)"
    assert load(packed / "val.safetensors").source == f"parquet: {report.comparison}"


def test_mean_and_std_are_near_the_published_ones(packed):
    pack = load(packed / "train.safetensors")
    # of all 50,000 images; ours leave val out
    assert pack.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-3)
    assert pack.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=1e-3)


def test_packed_order_and_split_by_hand(parts, packed):
    keys = [
        (hashlib.sha256(image.tobytes()).digest(), int(label))
        for image, label in zip(parts["train"].images, parts["train"].labels, strict=True)
    ]
    order = sorted(range(50_000), key=keys.__getitem__)
    seen = [0] * 10
    rows: dict[str, list[int]] = {"val": [], "train": []}
    for row in order:
        label = keys[row][1]
        rows["val" if seen[label] < 500 else "train"].append(row)
        seen[label] += 1
    for name, of_split in rows.items():
        pack = load(packed / f"{name}.safetensors")
        assert torch.from_numpy(parts["train"].images[of_split]).equal(pack.images)
        assert torch.from_numpy(parts["train"].labels[of_split]).equal(pack.labels)


def test_files_do_not_depend_on_the_order_of_rows(parts, packed, monkeypatch, tmp_path):
    random = np.random.default_rng(0)
    orders = {name: random.permutation(len(part.labels)) for name, part in parts.items()}
    shuffled = {name: Part(part.images[orders[name]], part.labels[orders[name]]) for name, part in parts.items()}
    monkeypatch.setattr(readers, "read", lambda *_: shuffled)
    again = prepare(CIFAR10, tmp_path / "again", data_root=ROOT)
    for name in SPLITS:
        assert (again / f"{name}.safetensors").read_bytes() == (packed / f"{name}.safetensors").read_bytes()


def test_shipped_fingerprints_can_be_computed_again(parts, lossy_rows):
    made: dict[str, list[np.ndarray]] = {"official": [], "lossy": []}
    for name, part in parts.items():
        marks = np.zeros(len(part.labels), dtype=bool)
        marks[lossy_rows[name]] = True
        computed = fingerprints(part.images, part.labels)
        made["official"].append(computed[~marks])
        made["lossy"].append(computed[marks])
    with np.load(Path(daar.data.__path__[0]) / "cifar10_fingerprints.npz") as shipped:
        for name, arrays in made.items():
            np.testing.assert_array_equal(shipped[name], np.sort(np.concatenate(arrays)))
        assert (len(shipped["official"]), len(shipped["lossy"])) == (59_889, 111)


def test_fingerprint_by_hand(parts):
    image, label = parts["test"].images[7], parts["test"].labels[7]
    by_hand = hashlib.sha256(image.tobytes() + label.astype(np.uint8).tobytes()).hexdigest()[:8]
    assert f"{fingerprints(image[None], label[None])[0]:08x}" == by_hand


def test_comparison_in_every_case(parts, lossy_rows):
    whole = everything(parts)
    images, labels = whole.images.copy(), whole.labels.copy()
    copies = [*lossy_rows["train"], *(50_000 + row for row in lossy_rows["test"])]
    # stand-ins for the originals, which the release alone has
    images[copies] = np.random.default_rng(0).integers(0, 256, (111, 32, 32, 3), dtype=np.uint8)
    assert compare(CIFAR10, images, labels) == ("matches the official release (59,889 of 60,000 images can be checked)")
    exact = sorted(set(range(60_000)) - set(copies))
    images[exact[0], 0, 0, 0] ^= 1
    assert compare(CIFAR10, images, labels) == "1 image differs from the official release"
    labels[exact[1]] = (labels[exact[1]] + 1) % 10
    assert compare(CIFAR10, images, labels) == "2 images differ from the official release"
    images[copies] = whole.images[copies]
    assert compare(CIFAR10, images, labels) == "113 images differ from the official release"


def test_finding_it_takes_milliseconds():
    start = time.perf_counter()
    for _ in range(10):
        locate(CIFAR10, ROOT)
    assert (time.perf_counter() - start) / 10 < 0.05


def test_cifar100_is_not_taken_for_cifar10(tmp_path):
    other = ROOT / "cifar100"
    if not other.is_dir():
        pytest.skip("no CIFAR-100 here")
    with pytest.raises(
        InputError, match=r"train.parquet has columns img, fine_label, coarse_label; expected img or image, and label"
    ):
        prepare(CIFAR10, tmp_path / "packed", data_root=other)
