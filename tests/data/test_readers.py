"""The three sources of one tiny data set give the same files, and every fault in them is named."""

import functools
import hashlib
import io
import json
import os
import pickle
import re
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torchvision
from PIL import Image

from daar.data.datasets import Dataset
from daar.data.packed import prepare
from daar.data.readers import Part, read
from daar.data.sources import Source
from daar.errors import InputError

TINY = Dataset(
    name="tiny",
    title="Tiny",
    classes=("cat", "dog", "fox"),
    shape=(3, 32, 32),
    official_train=18,
    official_test=6,
    train=12,
    val=6,
    test=6,
    flip=True,
    sources=("torchvision", "folder", "parquet"),
    torchvision_class="Tiny",
    torchvision_folder="tiny-batches-py",
)
PACKED = ["train.safetensors", "val.safetensors", "test.safetensors"]


def tiny_parts() -> dict[str, Part]:
    random = np.random.default_rng(0)
    parts = {}
    for name, count in TINY.official.items():
        images = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        images[1] = images[1, :, :, :1]  # a grey one
        labels = np.arange(count) % 3
        images[4] = images[0]  # equal images with two labels
        order = random.permutation(count)
        parts[name] = Part(images[order], labels[order])
    return parts


PARTS = tiny_parts()


def encode(image: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, form, lossless=True)
    return file.getvalue()


def old_pickle(content: Any) -> bytes:
    """A pickle like the official ones, which spell a dtype's flags as 0 and 1: NumPy 2.4 warns about that."""
    pickled = pickle.dumps(content, protocol=2)
    return pickled.replace(b"\x89\x88\x87", b"K\x00K\x01\x87")


def write_torchvision(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place / "tiny-batches-py"
    folder.mkdir(parents=True)

    def write(name: str, content: Any) -> tuple[str, str]:
        pickled = old_pickle(content)
        (folder / name).write_bytes(pickled)
        return name, hashlib.md5(pickled).hexdigest()

    def batch(part: Part, rows: slice) -> dict[str, Any]:
        pixels = part.images[rows].transpose(0, 3, 1, 2).reshape(-1, 3072)
        return {"data": np.ascontiguousarray(pixels), "labels": part.labels[rows].tolist()}

    class Tiny(torchvision.datasets.CIFAR10):
        base_folder = "tiny-batches-py"
        filename = "tiny.tar.gz"
        train_list = [  # noqa: RUF012
            write("data_batch_1", batch(PARTS["train"], slice(0, 10))),
            write("data_batch_2", batch(PARTS["train"], slice(10, None))),
        ]
        test_list = [write("test_batch", batch(PARTS["test"], slice(None)))]  # noqa: RUF012
        meta_name, meta_md5 = write("batches.meta", {"label_names": list(TINY.classes)})
        meta = {"filename": meta_name, "key": "label_names", "md5": meta_md5}  # noqa: RUF012

    monkeypatch.setattr(torchvision.datasets, "Tiny", Tiny, raising=False)


def write_folder(place: Path) -> None:
    for name, part in PARTS.items():
        for row, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
            path = place / name / TINY.classes[label] / f"{row:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(image))
    (place / "train" / ".DS_Store").touch()


def table_of(part: Part, form: str = "PNG", column: str = "img", names: list[str] | None = None) -> pa.Table:
    images = [{"bytes": encode(image, form), "path": None} for image in part.images]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({column: pa.array(images, kind), "label": pa.array(part.labels, pa.int64())})
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    return table


def write_parquet(place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    names = list(TINY.classes)
    pq.write_table(table_of(PARTS["train"], "WEBP", names=names), place / "train.parquet")
    pq.write_table(table_of(PARTS["test"], "WEBP", names=names), place / "test.parquet")


def packed_bytes(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in PACKED]


@pytest.fixture
def reference(tmp_path: Path) -> list[bytes]:
    write_folder(tmp_path / "reference")
    return packed_bytes(prepare(TINY, tmp_path / "reference-packed", data_root=tmp_path / "reference"))


def test_all_three_sources_give_the_same_bytes(tmp_path, monkeypatch, reference):
    write_torchvision(tmp_path / "tiny", monkeypatch)
    write_folder(tmp_path / "tiny")
    write_parquet(tmp_path / "tiny")
    for kind in TINY.sources:
        out = prepare(TINY, tmp_path / f"packed-{kind}", data_root=tmp_path, source=kind)
        assert packed_bytes(out) == reference
        note = json.loads((out / "source.json").read_text())
        assert note["kind"] == kind
        assert note["note"] == "no official fingerprints to compare with"
    auto = prepare(TINY, tmp_path / "packed", data_root=tmp_path)
    assert json.loads((auto / "source.json").read_text())["kind"] == "torchvision"


def test_shards_the_other_column_name_and_no_metadata(tmp_path, reference):
    table = table_of(PARTS["train"], column="image")
    pq.write_table(table.slice(0, 7), tmp_path / "train-00000-of-00002.parquet")
    pq.write_table(table.slice(7), tmp_path / "train-00001-of-00002.parquet")
    pq.write_table(table_of(PARTS["test"], column="image"), tmp_path / "test-00000-of-00001.parquet")
    assert packed_bytes(prepare(TINY, tmp_path / "packed", data_root=tmp_path)) == reference


def test_grey_and_palette_images_are_expanded(tmp_path, reference):
    write_folder(tmp_path)
    converted = 0
    for path in tmp_path.glob("*/*/*.png"):
        image = Image.open(path)
        grey = image.convert("L")
        if grey.convert("RGB").tobytes() == image.tobytes():
            (grey if converted % 2 else grey.quantize()).save(path)
            converted += 1
    assert converted == 2
    assert packed_bytes(prepare(TINY, tmp_path / "packed", data_root=tmp_path)) == reference


def test_test_images_are_the_official_ones_and_val_the_first_of_each_class(tmp_path):
    write_parquet(tmp_path)
    parts = read(Source("parquet", tmp_path), TINY)
    np.testing.assert_array_equal(parts["train"].images, PARTS["train"].images)
    np.testing.assert_array_equal(parts["test"].labels, PARTS["test"].labels)


# --- faults -----------------------------------------------------------------------------------------------------


def refuse(place: Path, *expected: str, source: str = "auto", download: bool = False) -> None:
    """Prepare, and expect one line that holds all of `expected`, and no output."""
    out = place / "refused"
    with pytest.raises(InputError) as caught:
        prepare(TINY, out, data_root=place, source=source, download=download)
    message = str(caught.value)
    assert "\n" not in message
    for part in expected:
        assert part in message
    assert not out.exists()


def test_nothing_there(tmp_path):
    refuse(tmp_path, "Tiny is not there", "tiny-batches-py/", str(tmp_path / "tiny"), "--data-root")
    refuse(tmp_path, "Tiny is not there", source="folder", download=True)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a web server on this machine that offers what lies in tmp_path/server."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = functools.partial(QuietHandler, directory=str(tmp_path / "server"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


# torchvision 0.29 unpacks without naming a filter, which Python 3.12 and 3.13 deprecate
@pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")
def test_download_fetches_what_is_not_there(tmp_path, monkeypatch, reference, server):
    write_torchvision(tmp_path / "server", monkeypatch)
    archive = tmp_path / "server" / "tiny.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "server" / "tiny-batches-py", "tiny-batches-py")
    monkeypatch.setattr("torchvision.datasets.Tiny.url", f"{server}/tiny.tar.gz")
    monkeypatch.setattr("torchvision.datasets.Tiny.tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    root = tmp_path / "root"
    assert packed_bytes(prepare(TINY, tmp_path / "packed", data_root=root, download=True)) == reference
    assert (root / "tiny" / "tiny-batches-py" / "test_batch").exists()


def test_download_of_other_bytes_is_refused(tmp_path, monkeypatch, server):
    write_torchvision(tmp_path / "server", monkeypatch)
    (tmp_path / "server" / "tiny.tar.gz").write_text("not the archive")
    monkeypatch.setattr("torchvision.datasets.Tiny.url", f"{server}/tiny.tar.gz")
    monkeypatch.setattr("torchvision.datasets.Tiny.tgz_md5", "0" * 32, raising=False)
    refuse(tmp_path / "root", "cannot download Tiny to", download=True)


def test_download_without_a_connection(tmp_path, monkeypatch):
    write_torchvision(tmp_path / "elsewhere", monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/tiny.tar.gz"
    monkeypatch.setattr("torchvision.datasets.Tiny.url", url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    refuse(tmp_path / "root", "cannot download Tiny to", "Check the connection", download=True)


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_torchvision_file_missing_or_changed(tmp_path, monkeypatch, name):
    write_torchvision(tmp_path, monkeypatch)
    path = tmp_path / "tiny-batches-py" / name
    path.write_bytes(path.read_bytes()[:-1])
    refuse(tmp_path, f"{path} differs from the official file (MD5)", "--download")
    path.unlink()
    refuse(tmp_path, f"{path} is missing", "--download")


def damage_image(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.png")


FOLDER_FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (damage_image, "{path} should be an image, but it cannot be decoded: "),
    "text": (lambda path: path.write_text("hello"), "{path} should be an image, but it cannot be decoded: "),
    "empty": (lambda path: path.write_bytes(b""), "{path} should be an image, but it cannot be decoded: "),
    "folder": (make_folder, "{path} should be an image, but is a folder. Give a file."),
    "pipe": (make_pipe, "{path} should be an image, but is a pipe. Give a file."),
    "link to nothing": (make_link, "{path} should be an image, but there is no such file. Check the path."),
    "bomb": (
        lambda path: Image.new("1", (9_500, 9_500)).save(path),
        "{path} should be an image, but it cannot be decoded: ",
    ),
    "size": (Image.new("RGB", (31, 32)).save, "{path} is a 32x31 RGB image; expected 32x32 RGB. Replace it."),
    "alpha": (Image.new("RGBA", (32, 32)).save, "{path} is a 32x32 RGBA image; expected 32x32 RGB."),
    "16 bit": (Image.new("I;16", (32, 32)).save, "{path} is a 32x32 I;16 image; expected 32x32 RGB."),
    "one less": (
        lambda path: path.unlink(),
        "holds 17 images of the train part of Tiny (fewest in dog (5), most in cat (6)); expected 18",
    ),
    "one more": (
        lambda path: path.with_name("new.png").write_bytes(path.read_bytes()),
        "holds 19 images of the train part of Tiny (fewest in cat (6), most in dog (7)); expected 18",
    ),
    "wrong class": (
        lambda path: path.parent.rename(path.parent.with_name("wolf")),
        "train/wolf is not a class of Tiny; expected the folders cat, dog, fox. Rename or remove it.",
    ),
    "stray file": (lambda path: path.rename(path.parents[1] / "stray.png"), "train/stray.png is not a class of Tiny"),
    "missing class": (lambda path: path.parent.rename(path.parents[2] / "dog"), "train/dog is missing"),
    "missing part": (lambda path: path.parents[1].rename(path.parents[2] / "trian"), "{root}/train is missing"),
}


@pytest.mark.parametrize("fault", FOLDER_FAULTS)
def test_fault_in_a_folder(tmp_path, fault):
    write_folder(tmp_path)
    path = min((tmp_path / "train" / "dog").iterdir())
    cause, message = FOLDER_FAULTS[fault]
    cause(path)
    refuse(tmp_path, message.format(path=path, root=tmp_path))


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    write_folder(tmp_path)

    def denied(self: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", denied)
    refuse(tmp_path, f"cannot read {tmp_path}/train: Permission denied. Fix it")


def replace(table: pa.Table, column: str, values: Any) -> pa.Table:
    return table.set_column(table.schema.names.index(column), column, values)


def with_label(table: pa.Table, label: int | None) -> pa.Table:
    labels = table.column("label").to_pylist()
    return replace(table, "label", pa.array([*labels[:5], label, *labels[6:]], pa.int64()))


def with_image(table: pa.Table, image: dict[str, Any] | None) -> pa.Table:
    images = table.column("img").to_pylist()
    return replace(table, "img", pa.array([*images[:5], image, *images[6:]], table.column("img").type))


def with_classes(table: pa.Table, *names: str) -> pa.Table:
    features = {"label": {"names": names}}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


WHOLE = table_of(PARTS["train"])
ENCODED = WHOLE.column("img")[5].as_py()["bytes"]
PARQUET_FAULTS: dict[str, tuple[pa.Table, str]] = {
    "one less": (WHOLE.slice(1), "holds 17 images of the train part of Tiny (train.parquet 17); expected 18"),
    "none": (WHOLE.slice(0, 0), "holds 0 images of the train part of Tiny (train.parquet 0); expected 18"),
    "label above": (with_label(WHOLE, 3), "train.parquet, row 5 (from 0): label 3 is outside 0 to 2."),
    "label below": (with_label(WHOLE, -1), "train.parquet, row 5 (from 0): label -1 is outside 0 to 2."),
    "label null": (with_label(WHOLE, None), "train.parquet, row 5 (from 0): label is null."),
    "image null": (with_image(WHOLE, None), "train.parquet, row 5 (from 0): image is null."),
    "bytes null": (
        with_image(WHOLE, {"bytes": None, "path": "a.png"}),
        "train.parquet, row 5 (from 0): image is null.",
    ),
    "truncated image": (
        with_image(WHOLE, {"bytes": ENCODED[:-200]}),
        "train.parquet, row 5 (from 0) should be an image, but it cannot be decoded",
    ),
    "size": (
        with_image(WHOLE, {"bytes": encode(np.zeros((8, 32, 3), np.uint8))}),
        "train.parquet, row 5 (from 0) is a 8x32 RGB image; expected 32x32 RGB",
    ),
    "no label": (WHOLE.drop_columns("label"), "train.parquet has columns img; expected img or image, and label"),
    "no image": (WHOLE.drop_columns("img"), "train.parquet has columns label; expected img or image, and label"),
    "label text": (
        replace(WHOLE, "label", pa.array(["cat"] * 18)),
        "train.parquet: column label is string; expected int64",
    ),
    "image bytes": (
        replace(WHOLE, "img", pa.array([b""] * 18)),
        "train.parquet: column img is binary; expected a struct with the image file's bytes",
    ),
    "classes": (
        with_classes(WHOLE, "dog", "cat", "fox"),
        "train.parquet has the classes dog, cat, fox; Tiny has cat, dog, fox, in this order",
    ),
}


@pytest.mark.parametrize("fault", PARQUET_FAULTS)
def test_fault_in_parquet(tmp_path, fault):
    write_parquet(tmp_path)
    table, message = PARQUET_FAULTS[fault]
    pq.write_table(table, tmp_path / "train.parquet")
    refuse(tmp_path, message, str(tmp_path))


@pytest.mark.parametrize("cut", [0, 100, -1])
def test_truncated_parquet(tmp_path, cut):
    write_parquet(tmp_path)
    path = tmp_path / "test.parquet"
    path.write_bytes(path.read_bytes()[:cut])
    refuse(tmp_path, f"{path} should be a Parquet file, but it cannot be read: ", "Fetch it again.")


def test_one_part_of_parquet_missing(tmp_path):
    write_parquet(tmp_path)
    (tmp_path / "test.parquet").unlink()
    refuse(tmp_path, f"{tmp_path} holds no test*.parquet, though the other part is there")


def test_fault_in_the_second_shard_is_named_by_its_own_row(tmp_path):
    write_parquet(tmp_path)
    damaged = with_image(WHOLE, {"bytes": b"damaged"})
    (tmp_path / "train.parquet").unlink()
    pq.write_table(damaged.slice(0, 4), tmp_path / "train-00000-of-00002.parquet")
    pq.write_table(damaged.slice(4), tmp_path / "train-00001-of-00002.parquet")
    refuse(tmp_path, "train-00001-of-00002.parquet, row 1 (from 0) should be an image")


def test_metadata_that_says_nothing_of_classes_is_passed_over(tmp_path, reference):
    write_parquet(tmp_path)
    for metadata in ("{", "{}", '{"info": null}', '{"info": {"features": {"label": {"names": null}}}}'):
        pq.write_table(WHOLE.replace_schema_metadata({"huggingface": metadata}), tmp_path / "train.parquet")
        assert packed_bytes(prepare(TINY, tmp_path / "packed", data_root=tmp_path)) == reference


def test_messages_do_not_show_a_memory_address(tmp_path):
    write_parquet(tmp_path)
    pq.write_table(with_image(WHOLE, {"bytes": b"damaged"}), tmp_path / "train.parquet")
    with pytest.raises(InputError) as caught:
        prepare(TINY, tmp_path / "packed", data_root=tmp_path)
    assert not re.search(r"0x[0-9a-f]{6,}", str(caught.value))


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_parquet_file_that_is_a_pipe_is_not_waited_for(tmp_path, part):
    write_parquet(tmp_path)
    (path,) = tmp_path.glob(f"{part}*.parquet")
    make_pipe(path)
    refuse(tmp_path, f"{path} should be a Parquet file, but is a pipe. Give a file.")
