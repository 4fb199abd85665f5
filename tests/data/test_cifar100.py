"""The real CIFAR-100, where it is there; and its parts in small, from all three sources."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torchvision

import daar.data
from daar.data import readers
from daar.data.datasets import get
from daar.data.fingerprints import compare, fingerprints
from daar.data.pack_files import SPLITS
from daar.data.packed import check, load, prepare
from daar.data.readers import Part
from daar.data.sources import locate
from daar.errors import InputError

CIFAR100 = get("cifar100")
# of cifar-100-binary.tar.gz, as MXNet's Gluon states it
TRAIN_BIN_SHA1 = "e207cd2e05b73b1393c74c7f5e7bea451d63e08e"


@pytest.fixture(scope="module")
def parts(real_data: Path) -> dict[str, Part]:
    located = locate(CIFAR100, real_data)
    if located is None or located.kind != "parquet":
        pytest.skip("no CIFAR-100 in Parquet files here")
    return readers.read(located, CIFAR100)


@pytest.fixture(scope="module")
def packed(parts: dict[str, Part], real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "read", lambda *_: parts)  # decoded once for all tests
        return prepare(CIFAR100, tmp_path_factory.mktemp("cifar100"), data_root=real_data)


def test_train_is_the_published_binary_file_byte_for_byte(parts, real_data):
    """Of every image: the coarse label, the fine one, then the red, green and blue plane."""
    coarse = pq.read_table(real_data / "cifar100" / "train.parquet", columns=["coarse_label"])["coarse_label"]
    train, digest = parts["train"], hashlib.sha1()
    for image, fine, group in zip(train.images, train.labels.tolist(), coarse.to_pylist(), strict=True):
        digest.update(bytes([group, fine]) + image.transpose(2, 0, 1).tobytes())
    assert digest.hexdigest() == TRAIN_BIN_SHA1


def test_counts_per_class_and_the_note(packed):
    report = check(packed)
    assert report.counts == {
        name: dict.fromkeys(CIFAR100.classes, count) for name, count in (("train", 450), ("val", 50), ("test", 100))
    }
    assert report.comparison == report.source["note"] == "matches the official release"


def test_mean_and_std_are_near_the_published_ones(packed):
    pack = load(packed / "train.safetensors")
    # of all 50,000 images, as he-y/filter-pruning-geometric-median has them; ours leave val out
    assert pack.mean == pytest.approx(np.array([129.3, 124.1, 112.4]) / 255, abs=2e-3)
    assert pack.std == pytest.approx(np.array([68.2, 65.4, 70.4]) / 255, abs=2e-3)


def test_equal_images_with_two_labels_do_not_make_the_files_depend_on_the_order(
    parts, packed, real_data, monkeypatch, tmp_path
):
    labels_of: dict[bytes, list[int]] = {}
    for part in parts.values():
        for image, label in zip(part.images, part.labels.tolist(), strict=True):
            labels_of.setdefault(image.tobytes(), []).append(label)
    twice = [labels for labels in labels_of.values() if len(labels) > 1]
    assert (len(twice), sum(len(set(labels)) > 1 for labels in twice)) == (26, 17)
    backwards = {name: Part(part.images[::-1].copy(), part.labels[::-1].copy()) for name, part in parts.items()}
    monkeypatch.setattr(readers, "read", lambda *_: backwards)
    again = prepare(CIFAR100, tmp_path / "again", data_root=real_data)
    for name in SPLITS:
        assert (again / f"{name}.safetensors").read_bytes() == (packed / f"{name}.safetensors").read_bytes()


def test_every_image_is_known_and_a_changed_one_is_noted(parts):
    images = np.concatenate([part.images for part in parts.values()])
    labels = np.concatenate([part.labels for part in parts.values()])
    with np.load(Path(daar.data.__path__[0]) / "cifar100_fingerprints.npz") as shipped:
        np.testing.assert_array_equal(shipped["official"], np.sort(fingerprints(images, labels)))
        assert len(shipped["lossy"]) == 0
    images[7, 0, 0, 0] ^= 1
    labels[8] = (labels[8] + 1) % 100
    assert compare(CIFAR100, images, labels) == "2 images differ from the official release"


def test_cifar10_is_not_taken_for_cifar100(real_data, tmp_path):
    with pytest.raises(
        InputError, match=r"train.parquet has columns img, label; expected img or image, and fine_label"
    ):
        prepare(CIFAR100, tmp_path / "packed", data_root=real_data / "cifar10")


# without the real images: the release's form


def put_release(place: Path, monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...]) -> dict[str, Part]:
    """A folder in the form of torchvision's CIFAR-100, with one image a class, and the MD5s of its files."""
    folder = place / "cifar-100-python"
    folder.mkdir(parents=True)
    made, lists = {}, {}
    for seed, name in enumerate(("train", "test")):
        images = np.random.default_rng(seed).integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
        labels = np.random.default_rng(seed).permutation(100)
        made[name] = Part(images, labels)
        lists[name] = [write(folder / name, {"data": planes(images), "fine_labels": labels.tolist()})]
    meta = write(folder / "meta", {"fine_label_names": list(classes), "coarse_label_names": ["fish"]})
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "train_list", lists["train"])
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "test_list", lists["test"])
    key = torchvision.datasets.CIFAR100.meta["key"]
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "meta", {"filename": meta[0], "key": key, "md5": meta[1]})
    return made


def write(path: Path, content: dict[str, Any]) -> list[str]:
    # the official pickles spell a dtype's flags as 0 and 1
    path.write_bytes(pickle.dumps(content, protocol=2).replace(b"\x89\x88\x87", b"K\x00K\x01\x87"))
    return [path.name, hashlib.md5(path.read_bytes()).hexdigest()]


def planes(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2).reshape(len(images), -1))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(readers, "_require_count", lambda *_: None)


def test_torchvisions_files_give_the_fine_labels(tmp_path, monkeypatch, small):
    made = put_release(tmp_path, monkeypatch, CIFAR100.classes)
    located = locate(CIFAR100, tmp_path)
    assert located is not None
    assert (located.kind, located.path) == ("torchvision", tmp_path / "cifar-100-python")
    for name, part in readers.read(located, CIFAR100).items():
        np.testing.assert_array_equal(part.images, made[name].images)
        np.testing.assert_array_equal(part.labels, made[name].labels)
    (tmp_path / "cifar-100-python" / "test").unlink()
    with pytest.raises(InputError, match=r"cifar-100-python/test is missing. Delete .* --download"):
        readers.read(located, CIFAR100)


def test_other_classes_are_refused_in_a_line_that_can_be_read(tmp_path, monkeypatch, small):
    classes = ("apple", "fish", *CIFAR100.classes[2:])
    put_release(tmp_path, monkeypatch, classes)
    located = locate(CIFAR100, tmp_path)
    assert located is not None
    with pytest.raises(InputError) as caught:
        readers.read(located, CIFAR100)
    said = str(caught.value)
    assert "has the classes apple, fish, baby," in said
    assert "CIFAR-100 has apple, aquarium_fish, baby," in said
    assert "and 88 more, in this order; they differ from class 1 on" in said
    assert len(said) < 600


def test_a_folder_of_a_class_that_is_none(tmp_path):
    for part in ("train", "test"):
        for name in CIFAR100.classes:
            (tmp_path / part / name).mkdir(parents=True)
    (tmp_path / "train" / "trees").mkdir()
    located = locate(CIFAR100, tmp_path)
    assert located is not None
    with pytest.raises(InputError, match=r"train/trees is not a class of CIFAR-100; expected .* and 88 more. Rename"):
        readers.read(located, CIFAR100)


def test_top5_counts_the_five_highest_from_100_classes_on():
    from daar.data.packed import Pack
    from daar.measure.accuracy import evaluate

    class Fixed(torch.nn.Module):
        """Ranks the classes 0, 1, 2, … for every image."""

        def __init__(self, classes: int) -> None:
            super().__init__()
            self.classes = classes

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return -torch.arange(self.classes).expand(len(images), -1).float()

    def measured(classes: int) -> tuple[float, float | None]:
        labels = torch.tensor([0, 0, 3, 4, 5, 9])
        pack = Pack(
            torch.zeros(6, 4, 4, 3, dtype=torch.uint8), labels, tuple(map(str, range(classes))), (0.5,) * 3, (0.5,) * 3,
            "some", "test", "none", "",
        )  # fmt: skip
        accuracy = evaluate(Fixed(classes), pack, pack.mean, pack.std, torch.device("cpu"), batch_size=4)
        return accuracy.top1, accuracy.top5

    assert measured(100) == (pytest.approx(100 * 2 / 6), pytest.approx(100 * 4 / 6))
    assert measured(99) == (pytest.approx(100 * 2 / 6), None)
