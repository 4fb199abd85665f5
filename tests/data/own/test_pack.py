"""Datasets of one's own, packed: splits by the hash of pixels, mean and std of train, the same from any source."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daar.data import datasets, loading
from daar.data.own import definition, pack
from daar.data.own.definition import OwnDataset
from daar.data.pack_files import SPLITS, read_source
from daar.data.packed import Pack
from daar.errors import InputError
from tests.data.own.folders import fill, picture


def define(entry: dict[str, Any], name: str = "pets") -> OwnDataset:
    return definition.define(name, entry, f"datasets.{name}")


def prepared(root: Path, out: Path, **entry: Any) -> dict[str, Pack]:
    pack.prepare(define({"folder": str(root), "size": 8, **entry}), out)
    return loaded(out)


def loaded(out: Path) -> dict[str, Pack]:
    return {split: loading.load(out / f"{split}.safetensors") for split in SPLITS}  # type: ignore[misc]


def hashes(part: Pack) -> list[bytes]:
    return [hashlib.sha256(image.numpy().tobytes()).digest() for image in part.images]


def test_split_by_the_hash_of_the_pixels(tmp_path: Path) -> None:
    """By hand: of each class the first fifth in the order of hashes is test, the next tenth val."""
    root = fill(tmp_path / "pets", {"a": 20, "b": 10})
    splits = prepared(root, tmp_path / "out")
    for label, (name, count) in enumerate({"a": 20, "b": 10}.items()):
        ordered = sorted(
            hashlib.sha256(np.asarray(picture(seed)).tobytes()).digest()
            for seed in range(20 * label, 20 * label + count)
        )
        test, val = count // 5, count // 10
        of = {split: [h for h, one in zip(hashes(part), part.labels, strict=True) if one == label]
              for split, part in splits.items()}  # fmt: skip
        assert of == {"test": ordered[:test], "val": ordered[test : test + val], "train": ordered[test + val :]}, name
    assert splits["train"].classes == ("a", "b")


def test_mean_and_std_are_of_train_and_recorded(tmp_path: Path) -> None:
    splits = prepared(fill(tmp_path / "pets", {"a": 20, "b": 10}), tmp_path / "out")
    pixels = splits["train"].images.double() / 255
    for part in splits.values():
        assert part.mean == pytest.approx(pixels.mean((0, 1, 2)).tolist(), abs=1e-12)
        assert part.std == pytest.approx(pixels.std((0, 1, 2), correction=0).tolist(), abs=1e-12)


def test_names_of_files_and_the_source_do_not_matter(tmp_path: Path) -> None:
    root = fill(tmp_path / "pets", {"a": 10, "b": 10})
    first = prepared(root, tmp_path / "out")
    images = [(file.read_bytes(), file.parent.name) for file in sorted(root.glob("*/*"))]
    for file in root.glob("a/*"):
        file.rename(file.with_name(f"z{file.name}"))
    second = prepared(root, tmp_path / "second")
    table = pa.table({"picture": [image for image, _ in images], "kind": [name for _, name in images]})
    pq.write_table(table.slice(0, 7), tmp_path / "1.parquet")
    pq.write_table(table.slice(7), tmp_path / "2.parquet")
    pack.prepare(define({"parquet": str(tmp_path), "image": "picture", "label": "kind", "size": 8}), tmp_path / "third")
    for others in (second, loaded(tmp_path / "third")):
        assert {split: part.checksum for split, part in others.items()} == {
            split: part.checksum for split, part in first.items()
        }


def test_given_parts_stay_apart(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    for first, part in ((0, "train"), (20, "val"), (40, "test")):
        fill(root / part, {"a": 5, "b": 5}, first)
    splits = prepared(root, tmp_path / "out")
    for first, part in ((0, "train"), (20, "val"), (40, "test")):
        given = {hashlib.sha256(np.asarray(picture(seed)).tobytes()).digest() for seed in range(first, first + 10)}
        assert set(hashes(splits[part])) == given
    assert "split as found" in read_source(tmp_path / "out")["note"]
    shutil.rmtree(root / "test")
    splits = prepared(root, tmp_path / "again")
    given = {hashlib.sha256(np.asarray(picture(seed)).tobytes()).digest() for seed in range(20, 30)}
    assert set(hashes(splits["test"])) == given
    assert "val of the folder is test here" in read_source(tmp_path / "again")["note"]


def test_what_images_were_is_noted(tmp_path: Path) -> None:
    root = fill(tmp_path / "pets", {"a": 10, "b": 10})
    picture(100).convert("L").save(root / "a" / "grey.png")
    picture(101).convert("RGBA").save(root / "b" / "alpha.png")
    (root / "b" / "notes.txt").write_text("")
    for part in ("train", "test"):
        fill(tmp_path / "twice" / part, {"a": 10, "b": 10})
    prepared(root, tmp_path / "out")
    note = read_source(tmp_path / "out")["note"]
    assert "1 grey, 1 with alpha (put on white)" in note
    assert "notes.txt" in note
    prepared(tmp_path / "twice", tmp_path / "equal")
    assert "18 images are both in test and in train" in read_source(tmp_path / "equal")["note"]


def test_broken_images_are_named_or_left_out(tmp_path: Path) -> None:
    root = fill(tmp_path / "pets", {"a": 10, "b": 10})
    (root / "a" / "0.png").write_bytes(b"hello")
    (root / "b" / "1.png").write_bytes(b"")
    dataset = define({"folder": str(root), "size": 8})
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"2 of 20 images .* a/0\.png \(no known image format\), b/1\.png") as error:
        loading.prepare(dataset, out)
    assert "\n" not in str(error.value)
    assert not out.exists()
    loading.prepare(dataset, out, skip_corrupt=True)
    assert sum(len(part.labels) for part in loaded(out).values()) == 18
    assert len(read_source(out)["skipped"]) == 2
    for index in range(2, 9):
        (root / "b" / f"{index}.png").write_bytes(b"")
    with pytest.raises(InputError, match="2 images of the class b; expected 5 or more"):
        loading.prepare(dataset, tmp_path / "few", skip_corrupt=True)


def test_images_without_a_picture(tmp_path: Path) -> None:
    root = fill(tmp_path / "pets", {"a": 10, "b": 10})
    for file in root.glob("*/*"):
        picture(0).point(lambda _: 9).save(file)
    with pytest.raises(InputError, match=r"train images of .*pets have a channel with one value \(std 0\)"):
        prepared(root, tmp_path / "out")


def test_it_is_known_by_what_was_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "_own", {})
    entry = {"folder": str(fill(tmp_path / "pets", {"a": 10, "b": 10})), "size": 8, "flip": False, "title": "My pets"}
    dataset = define(entry)
    pack.prepare(dataset, tmp_path / "data" / "pets")
    (tmp_path / "data" / "damaged").mkdir()
    (tmp_path / "data" / "damaged" / "source.json").write_text("{")
    datasets._own.clear()
    with pytest.raises(InputError, match=r"unknown dataset 'pets'.*One of your own"):
        datasets.get("pets")
    definition.recall_all(tmp_path / "data")
    assert datasets.get("pets") == dataset
    assert datasets.title("pets") == "My pets"
    assert loading.check(tmp_path / "data" / "pets").counts["test"] == {"a": 2, "b": 2}
    shutil.rmtree(tmp_path / "pets")
    assert definition.from_suite("pets", entry, tmp_path / "data", "x") == dataset
    for changed in ({"size": 16}, {"flip": True}):
        with pytest.raises(InputError, match="pets is not there"):
            definition.from_suite("pets", {**entry, **changed}, tmp_path / "data", "x")


@pytest.mark.parametrize(
    ("name", "entry", "said"),
    [
        ("digits", {"size": 8}, "digits is a dataset that daar has already"),
        ("a-b", {"size": 8}, "a-z, 0-9 and _"),
        ("pets", {"size": 8}, "neither folder nor parquet"),
        ("pets", {"size": 8, "folder": "~nobody-of-that-name/x"}, "~nobody-of-that-name/x is not there"),
        ("pets", {"size": 8, "folder": "x", "parquet": "y"}, "folder and parquet"),
        ("pets", {"folder": "x"}, "names no size"),
        ("pets", {"folder": "x", "size": 8, "label": "y"}, "label names a column of Parquet files"),
    ],
)
def test_definitions_that_cannot_be(name: str, entry: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        define(entry, name)


def test_more_pixels_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill(tmp_path / "pets", {"a": 10, "b": 10})
    monkeypatch.setattr(definition, "_MOST_BYTES", 3 * 20 * 64 - 1)
    with pytest.raises(InputError, match=r"20 images of 8x8 are .* GiB of pixels.*Choose a smaller size"):
        define({"folder": str(root), "size": 8})


def test_a_changed_folder_is_another_dataset(tmp_path: Path) -> None:
    root = fill(tmp_path / "pets", {"a": 10, "b": 10})
    entry = {"folder": str(root), "size": 8}
    dataset = define(entry)
    assert define(entry).listing == dataset.listing
    (root / "a" / "0.png").write_bytes(b"another")
    assert define(entry).listing != dataset.listing
    picture(50).save(root / "a" / "new.png")
    with pytest.raises(InputError, match=r"cannot be decoded|has changed"):
        pack.prepare(dataset, tmp_path / "out")


class TestTables:
    def write(
        self, folder: Path, columns: dict[str, Any], name: str = "x.parquet", metadata: Any = None
    ) -> dict[str, Any]:
        table = pa.table(columns)
        if metadata:
            table = table.replace_schema_metadata({"huggingface": json.dumps(metadata)})
        pq.write_table(table, folder / name)
        return {"parquet": str(folder / name), "size": 8}

    def images(self, count: int = 10) -> list[bytes]:
        files = []
        for seed in range(count):
            file = Path(self.folder, "image.png")
            picture(seed).save(file)
            files.append(file.read_bytes())
        return files

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def test_hugging_face_s_layout(self, tmp_path: Path) -> None:
        images = [{"bytes": image, "path": None} for image in self.images()]
        features = {"info": {"features": {"label": {"names": ["cat", "dog"]}}}}
        entry = self.write(tmp_path, {"image": images, "label": [0, 1] * 5}, metadata=features)
        dataset = define(entry)
        assert (dataset.classes, dataset.train) == (("cat", "dog"), 6)
        pack.prepare(dataset, tmp_path / "out")
        assert len(loaded(tmp_path / "out")["train"].labels) == 6

    def test_numbers_without_names(self, tmp_path: Path) -> None:
        entry = self.write(tmp_path, {"image": self.images(), "label": [7, 30] * 5})
        assert define(entry).classes == ("7", "30")

    def test_parts(self, tmp_path: Path) -> None:
        place = tmp_path / "parts"
        place.mkdir()
        columns = {"image": self.images(), "label": [0, 1] * 5}
        for name in ("train-0.parquet", "train-1.parquet", "validation.parquet"):
            self.write(place, columns, name)
        dataset = define({"parquet": str(place), "size": 8})
        assert dataset.splits == {"train": 18, "val": 2, "test": 10}
        (place / "validation.parquet").unlink()
        with pytest.raises(InputError, match=r"has train\*\.parquet, but neither"):
            define({"parquet": str(place), "size": 8})

    @pytest.mark.parametrize(
        ("columns", "said"),
        [
            ({"img": [b""], "label": [0]}, r"has no column 'image', but img, label\. .*--image"),
            ({"image": [b""], "kind": [0]}, r"has no column 'label', but image, kind"),
            ({"image": ["x"], "label": [0]}, "column image is string; expected bytes of image files"),
            ({"image": [b""], "label": [0.5]}, "column label is double; expected whole numbers or texts"),
            ({"image": [b"", b""], "label": [0, None]}, "row 1 .* label is null"),
            ({"image": [b""] * 5, "label": [0] * 5}, "has one class, 0"),
            ({"image": [b""] * 5, "label": [0, 0, 0, 0, 1]}, "has 4 images of the class 0; expected 5"),
            ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}, "has no rows"),
            ({"a\nb\x1b": [b""], "c" * 3000: [0]}, r"no column 'image', but a\\nb\\x1b, c{50,200} … c{50,200}\. Name"),
        ],
    )
    def test_what_is_wrong(self, tmp_path: Path, columns: dict[str, Any], said: str) -> None:
        with pytest.raises(InputError, match=said) as error:
            define(self.write(tmp_path, columns))
        assert "\n" not in str(error.value)

    def test_names_that_cannot_be_told_apart(self, tmp_path: Path) -> None:
        arrays = [pa.array(self.images()), pa.array([0, 1] * 5), pa.array([0, 1] * 5)]
        pq.write_table(pa.Table.from_arrays(arrays, names=["image", "label", "label"]), tmp_path / "x.parquet")
        with pytest.raises(InputError, match="has 2 columns 'label'; expected one"):
            define({"parquet": str(tmp_path), "size": 8})

    def test_texts_that_are_no_utf_8(self, tmp_path: Path) -> None:
        ends = pa.py_buffer(b"".join(end.to_bytes(4, "little") for end in range(11)))
        labels = pa.StringArray.from_buffers(10, ends, pa.py_buffer(b"\xff\xfe" * 5))
        with pytest.raises(InputError, match="column label has a text that is not UTF-8"):
            define(self.write(tmp_path, {"image": self.images(), "label": labels}))

    def test_numbers_in_one_file_and_texts_in_another(self, tmp_path: Path) -> None:
        self.write(tmp_path, {"image": self.images(), "label": [0, 1] * 5}, "train.parquet")
        self.write(tmp_path, {"image": self.images(), "label": ["0", "1"] * 5}, "test.parquet")
        with pytest.raises(InputError, match="whole numbers in one file and texts in another"):
            define({"parquet": str(tmp_path), "size": 8})

    @pytest.mark.parametrize("label", [-1, 2])
    def test_numbers_that_the_metadata_does_not_name(self, tmp_path: Path, label: int) -> None:
        features = {"info": {"features": {"label": {"names": ["cat", "dog"]}}}}
        entry = self.write(tmp_path, {"image": self.images(), "label": [0, label] * 5}, metadata=features)
        with pytest.raises(InputError, match=f"has {label}, but its metadata names 2 classes, 0 to 1"):
            define(entry)

    @pytest.mark.parametrize("names", [["a", "a"], ["a", {"x": 1}], ["a", "b" * 256], ["a"], "ab"])
    def test_metadata_that_names_no_classes(self, tmp_path: Path, names: Any) -> None:
        features = {"info": {"features": {"label": {"names": names}}}}
        assert define(
            self.write(tmp_path, {"image": self.images(), "label": [0, 1] * 5}, metadata=features)
        ).classes == ("0", "1")

    def test_a_file_that_is_damaged_where_its_images_are(self, tmp_path: Path) -> None:
        entry = self.write(tmp_path, {"image": self.images(), "label": [0, 1] * 5})
        dataset, file = define(entry), tmp_path / "x.parquet"
        content = bytearray(file.read_bytes())
        content[8:40] = bytes(range(200, 232))
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"x\.parquet cannot be read as Parquet: .*Fetch it again") as error:
            pack.prepare(dataset, tmp_path / "out")
        assert "\n" not in str(error.value)
        assert not (tmp_path / "out").exists()

    def test_no_table(self, tmp_path: Path) -> None:
        (tmp_path / "x.parquet").write_bytes(b"PAR1")
        with pytest.raises(InputError, match="cannot be read as Parquet"):
            define({"parquet": str(tmp_path), "size": 8})
        (tmp_path / "x.parquet").unlink()
        with pytest.raises(InputError, match=r"holds no \*\.parquet"):
            define({"parquet": str(tmp_path), "size": 8})
        with pytest.raises(InputError, match="is not there"):
            define({"parquet": str(tmp_path / "none"), "size": 8})

    def test_broken_and_absent_images(self, tmp_path: Path) -> None:
        images: list[bytes | None] = [*self.images(18), b"hello", None]
        dataset = define(self.write(tmp_path, {"image": images, "label": [0, 1] * 10}))
        with pytest.raises(InputError, match=r"2 of 20 .*row 18 .*no known image format.*row 19 .* null"):
            pack.prepare(dataset, tmp_path / "out")
