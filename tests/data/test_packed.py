import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from sklearn.datasets import load_digits

from daar.data import packed as packed_splits
from daar.data import readers
from daar.data.datasets import get
from daar.data.pack_files import SPLITS
from daar.data.packed import channel_statistics, check, load, prepare
from daar.errors import InputError

DIGITS = get("digits")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(DIGITS, tmp_path_factory.mktemp("digits"))


@pytest.fixture
def copy(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "copy"))


def digits_by_hand() -> list[tuple[bytes, int]]:
    """Every digit as 32x32 RGB bytes and label, in packed order."""
    pairs = []
    for values, label in zip(load_digits().images, load_digits().target, strict=True):
        image = Image.new("L", (8, 8))
        image.putdata([round(value * 255 / 16) for value in values.ravel().tolist()])
        pairs.append((image.resize((32, 32), Image.Resampling.BILINEAR).convert("RGB").tobytes(), int(label)))
    return sorted(pairs, key=lambda pair: (hashlib.sha256(pair[0]).hexdigest(), pair[1]))


def pairs_of(path: Path) -> list[tuple[bytes, int]]:
    pack = load(path)
    return [(image.numpy().tobytes(), int(label)) for image, label in zip(pack.images, pack.labels, strict=True)]


def test_digits_against_sklearn_and_pillow(packed):
    by_hand = digits_by_hand()
    ours = {name: pairs_of(packed / f"{name}.safetensors") for name in SPLITS}
    assert {name: len(pairs) for name, pairs in ours.items()} == {"train": 1_257, "val": 180, "test": 360}
    for label in range(10):
        # per class the first images are test, the next ones val, the rest train
        in_turn = [pair for name in ("test", "val", "train") for pair in ours[name] if pair[1] == label]
        assert in_turn == [pair for pair in by_hand if pair[1] == label]
    for pairs in ours.values():
        assert pairs == sorted(pairs, key=by_hand.index)


def test_pack_says_what_it_is(packed):
    for name in SPLITS:
        pack = load(packed / f"{name}.safetensors")
        assert pack.images.dtype == torch.uint8
        assert pack.images.shape == (DIGITS.splits[name], 32, 32, 3)
        assert pack.labels.dtype == torch.int64
        assert (pack.dataset, pack.split, pack.classes) == ("digits", name, tuple("0123456789"))
        assert pack.source == "scikit-learn: no official fingerprints to compare with"


def test_mean_and_std_are_of_the_train_part(packed):
    images = load(packed / "train.safetensors").images.numpy().astype(np.float64) / 255
    for name in SPLITS:
        pack = load(packed / f"{name}.safetensors")
        np.testing.assert_allclose(pack.mean, images.mean(axis=(0, 1, 2)), rtol=1e-9)
        np.testing.assert_allclose(pack.std, images.std(axis=(0, 1, 2)), rtol=1e-9)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=4, max_dims=4, max_side=5)))
def test_statistics_against_numpy(images):
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 1, 2)), atol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 1, 2)), atol=1e-8)


def test_statistics_are_exact():
    images = np.array([0, 255, 255, 0], dtype=np.uint8).reshape(1, 2, 2, 1)
    assert channel_statistics(images) == ((0.5,), (0.5,))
    # a float32 sum would lose the single grey level among ten million pixels
    images = np.full((10, 1_000, 1_000, 1), 255, dtype=np.uint8)
    images[0, 0, 0, 0] = 254
    mean, std = channel_statistics(images)
    assert mean == ((255 * 10**7 - 1) / (255 * 10**7),)
    assert std[0] == pytest.approx((10**7 - 1) ** 0.5 / 10**7 / 255, rel=1e-12)


def test_packing_again_gives_the_same_bytes(packed, tmp_path):
    again = prepare(DIGITS, tmp_path / "again")
    for name in (*(f"{name}.safetensors" for name in SPLITS), "source.json"):
        assert (again / name).read_bytes() == (packed / name).read_bytes()
    assert {path.name for path in again.iterdir()} == {
        "train.safetensors",
        "val.safetensors",
        "test.safetensors",
        "source.json",
    }


def test_content_stays_the_same_from_version_to_version(packed):
    assert {name: checksum[:16] for name, checksum in check(packed).checksums.items()} == {
        "train": "f5501d3511a79370",
        "val": "5819f13dcf42458c",
        "test": "72cc123929e8bda4",
    }


def test_check_reports(packed):
    report = check(packed)
    assert report.dataset == "digits"
    assert report.source["kind"] == "scikit-learn"
    assert {name: sum(counts.values()) for name, counts in report.counts.items()} == DIGITS.splits
    labels = load_digits().target
    for label in range(10):
        assert sum(counts[str(label)] for counts in report.counts.values()) == (labels == label).sum()
    assert len(set(report.checksums.values())) == 3
    assert report.mean == load(packed / "train.safetensors").mean


# --- damage -----------------------------------------------------------------------------------------------------


def refused(path: Path, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(copy):
    (copy / "val.safetensors").unlink()
    refused(copy / "val.safetensors", "there is no such file. Make it again with `daar data prepare`.")


@pytest.mark.parametrize("size", [0, 7, 100, 10_000, -1])
def test_truncated_file(copy, size):
    path = copy / "val.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    refused(path, "should hold packed images, but it cannot be read")


def test_longer_file(copy):
    path = copy / "val.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    refused(path, "should hold packed images, but it cannot be read")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_refused(packed, tmp_path, data):
    content = bytearray((packed / "val.safetensors").read_bytes())
    shutil.copy(packed / "source.json", tmp_path)
    # the header is small and has the most ways to go wrong, so most of the damage goes there
    end_of_header = 8 + int.from_bytes(content[:8], "little")
    at = data.draw(st.integers(0, end_of_header + 200) | st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    (tmp_path / "val.safetensors").write_bytes(content)
    with pytest.raises(InputError):
        load(tmp_path / "val.safetensors")


def rewrite(path: Path, **changes: Any) -> None:
    """Write a packed file again, with another header."""
    with safetensors.safe_open(path, "np") as file:
        header = json.loads(file.metadata()["daar_pack"]) | changes
        tensors = {name: file.get_tensor(name) for name in ("images", "labels")}
    safetensors.numpy.save_file(tensors, path, {"daar_pack": json.dumps(header)})


def test_newer_version(copy):
    rewrite(copy / "val.safetensors", version=2)
    refused(copy / "val.safetensors", "is in format 2; this version of daar reads up to 1. Update daar")


@pytest.mark.parametrize("change", [{"mean": [0.5, 0.5, 0.5]}, {"classes": ["a"] * 10}, {"dataset": "cifar10"}])
def test_changed_description(copy, change):
    rewrite(copy / "val.safetensors", **change)
    refused(copy / "val.safetensors", "its checksum does not fit its content")


def test_foreign_safetensors(copy):
    safetensors.numpy.save_file({"weight": np.zeros(3)}, copy / "val.safetensors", {"format": "pt"})
    refused(copy / "val.safetensors", "should have 'daar_pack' in its metadata, but has not")
    (copy / "val.safetensors").write_text("hello")
    refused(copy / "val.safetensors", "should hold packed images, but it cannot be read")


def test_missing_or_broken_source_note(copy):
    note = copy / "source.json"
    note.write_text("{}")
    with pytest.raises(InputError, match=r"source.json: .*is a required property"):
        load(copy / "val.safetensors")
    note.unlink()
    with pytest.raises(InputError, match=r"source.json should be the note .* but there is no such file"):
        load(copy / "val.safetensors")


def test_source_note_of_other_images(copy):
    note = json.loads((copy / "source.json").read_text())
    note["checksums"]["val"] = "0" * 64
    (copy / "source.json").write_text(json.dumps(note))
    refused(copy / "val.safetensors", "are not of one data set")


def test_check_refuses_a_split_under_another_name(copy):
    shutil.copy(copy / "val.safetensors", copy / "test.safetensors")
    with pytest.raises(
        InputError, match=r"test.safetensors holds 180 images, val of digits; expected 360, test of digits"
    ):
        check(copy)


def test_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        prepare(DIGITS, tmp_path / "file" / "below")


def test_a_class_without_images_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = readers.read

    def without_threes(*arguments: Any) -> dict[str, readers.Part]:
        # as many images as there should be, but the threes are called fours
        return {
            name: readers.Part(part.images, np.where(part.labels == 3, 4, part.labels))
            for name, part in whole(*arguments).items()
        }

    monkeypatch.setattr(readers, "read", without_threes)
    with pytest.raises(InputError, match=r"of all 10 classes in the train part of digits, got none of 3\. Replace"):
        prepare(DIGITS, tmp_path / "digits")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("images", "labels", "changes", "said"),
    [
        ((4, 8, 8, 1), [0, 1, 2, 1], {}, "labels should be from 0 to 1"),
        ((4, 8, 8, 1), [0, -1, 0, 1], {}, "labels should be from 0 to 1"),
        ((4, 8, 8, 1), [0, 1], {}, "the same number of images"),
        ((4, 8, 8, 3), [0, 1, 0, 1], {}, "the same number of channels"),
        ((0, 8, 8, 1), [], {}, "the same number of images"),
        ((4, 0, 8, 1), [0, 1, 0, 1], {}, "should hold images"),
        ((4, 8, 8), [0, 1, 0, 1], {}, "'images' should be uint8 (any, any, any, any)"),
        ((4, 8, 8, 1), [0, 1, 0, 1], {"mean": [float("nan")]}, "NaN"),
        ((4, 8, 8, 1), [0, 1, 0, 1], {"dataset": "../digits"}, "dataset"),
        ((4, 8, 8, 1), [0, 1, 0, 1], {"classes": "ab"}, "classes"),
    ],
)
def test_a_pack_of_others_whose_checksum_is_right(tmp_path, images, labels, changes, said):
    about = {"dataset": "digits", "split": "val", "classes": ["a", "b"], "mean": [0.5], "std": [0.5], **changes}
    part = readers.Part(np.zeros(images, dtype=np.uint8), np.array(labels, dtype=np.int64))
    packed_splits.write_split(tmp_path / "val.safetensors", part, about)
    refused(tmp_path / "val.safetensors", said)
