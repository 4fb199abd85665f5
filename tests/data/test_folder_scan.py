"""Folders of images as people have them: odd names, links, pipes, bombs. Torchvision's ImageFolder is the oracle."""

import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import ImageFolder as TorchvisionFolder

from daar.data import datasets, decoding, image_folder, loading
from daar.data.folder_scan import ENDINGS, text_of
from daar.errors import InputError

CLASSES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(decoding.WORKERS, "0")


def fill(root: Path, classes: tuple[str, ...] = CLASSES) -> Path:
    for part in ("train", "val"):
        for name in classes:
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(3):
                Image.new("RGB", (9, 8)).save(folder / f"{index}.png")
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fill(tmp_path / "imagenet")


def prepared(root: Path, **options: Any) -> dict[str, int]:
    """What is indexed: path → label."""
    index = image_folder.prepare(datasets.get("imagenet"), root, root.parent / "index", **options)
    labels: dict[str, int] = {}
    for name in ("train", "val", "test"):
        split = image_folder.load(index / f"{name}.safetensors")
        labels |= dict(zip(split.paths, split.labels.tolist(), strict=True))
    assert loading.check(index).dataset == "imagenet"
    return labels


def refusal(root: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        prepared(root, **options)
    assert str(caught.value).isprintable()
    assert not (root.parent / "index").exists()
    return str(caught.value)


def of_torchvision(root: Path) -> dict[str, int]:
    """What torchvision finds in both parts, without hidden files and formats that daar does not take."""
    found = {}
    for part in ("train", "val"):
        for path, label in TorchvisionFolder(str(root / part)).samples:
            name = os.path.relpath(path, root)
            if path.lower().endswith(ENDINGS) and not Path(path).name.startswith("."):
                found[name] = label
    return found


# any bytes that a name may have; "." and ".." are no names
_NAMES = st.binary(min_size=1, max_size=12).map(lambda raw: raw.translate(None, b"/\0")).filter(len)
_ODD = st.sampled_from(
    [
        "a\nb",
        "\n",
        "a\tb",
        "\x1b[31m",
        "é",
        "e\u0301",
        "A",
        "a",
        "ﬁ",
        "x y",
        "-rf",
        "$(id)",
        "'",
        '"',
        "\\",
        "\\xff",
        "\u202e",
    ]
)
NAMES = _NAMES.map(os.fsdecode) | _ODD
STEMS = NAMES.filter(lambda name: not name.startswith("."))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    classes=st.lists(STEMS, min_size=2, max_size=5, unique=True),
    stems=st.lists(NAMES, min_size=2, max_size=6, unique=True),
    endings=st.lists(st.sampled_from([*ENDINGS, ".JPEG", ".PnG", ".txt", ""]), min_size=2, max_size=6),
)
def test_labels_are_torchvision_s_whatever_the_names(
    tmp_path: Path, classes: list[str], stems: list[str], endings: list[str]
) -> None:
    root = Path(tempfile.mkdtemp(dir=tmp_path)) / "imagenet"
    for part in ("train", "val"):
        for label, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for at, stem in enumerate(stems):
                file = root / part / name / f"{stem}{endings[(at + label) % len(endings)]}"
                file.write_bytes(b"x")
            for index in range(2):
                (root / part / name / f"{index}.jpg").write_bytes(b"x")
    assert prepared(root) == of_torchvision(root)


def test_names_in_two_forms_and_lines_are_kept_apart(tmp_path: Path) -> None:
    names = ("e\u0301", "é", "E", "line\nbreak", os.fsdecode(b"\xff"), "\\xff")
    root = fill(tmp_path / "imagenet", names)
    Image.new("RGB", (9, 8)).save(root / "train" / names[3] / "more.png")
    assert prepared(root) == of_torchvision(root)
    index = tmp_path / "index"
    assert len(set(loading.check(index).counts["train"])) == len(names)
    assert [*image_folder.load(index / "val.safetensors").classes] == [text_of(name) for name in sorted(names)]
    done = subprocess.run(
        [sys.executable, "-m", "daar", "data", "check", str(index)],
        capture_output=True, env={**os.environ, "PYTHONUTF8": "1"}, check=True,
    )  # fmt: skip
    said = done.stdout.decode()
    assert (len(said.splitlines()), done.stderr) == (5, b"")
    assert "line\\nbreak 3, é 2" in said


def test_classes_that_differ_only_in_their_form_are_named_as_that(root: Path) -> None:
    (root / "train" / "c").rename(root / "train" / "e\u0301")
    (root / "val" / "c").rename(root / "val" / "é")
    assert "Some differ only in case or Unicode normalisation" in refusal(root)


def test_an_index_of_the_older_form_is_read_unless_a_name_holds_a_newline(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "FORMAT_VERSION", 1)
        assert prepared(root) == of_torchvision(root)
    assert image_folder.load(root.parent / "index" / "train.safetensors").classes == CLASSES
    (root / "train" / "a" / "0.png").rename(root / "train" / "a" / "0\n1.png")
    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "FORMAT_VERSION", 1)
        image_folder.prepare(datasets.get("imagenet"), root, root.parent / "old")
    splits = [root.parent / "old" / f"{name}.safetensors" for name in ("train", "val")]
    with pytest.raises(InputError, match="daar data prepare"):
        [image_folder.load(split) for split in splits]


# what is no image


def broken(root: Path) -> list[str]:
    """Images that are none, one of each kind."""
    folder = root / "train" / "a"
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "empty.jpg").touch()
    return [f"train/a/{name}.jpg" for name in ("dangling", "device", "empty", "loop", "pipe")]


def test_links_to_nothing_pipes_devices_and_empty_files_are_named_and_can_be_left_out(root: Path) -> None:
    whole, bad = of_torchvision(root), broken(root)
    expected = f"5 of 23 images below {root} are empty, no files, or cannot be decoded: {', '.join(bad[:3])} and 2 more"
    assert expected in refusal(root)
    assert prepared(root, skip_corrupt=True) == whole
    assert json.loads((root.parent / "index" / "source.json").read_text())["skipped"] == bad


def png(width: int, height: int) -> bytes:
    """A small file that claims to be large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content",
    [
        png(10_000, 10_000),  # Pillow only warns
        png(100_000, 100_000),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",  # Pillow would start Ghostscript
        b"\xff\xd8\xff\xe0 truncated",
        b"GIF89a",
        b"text",
    ],
    ids=["bomb", "larger bomb", "postscript", "truncated", "head alone", "text"],
)
def test_what_cannot_be_decoded_is_found_by_verifying(root: Path, content: bytes) -> None:
    (root / "val" / "b" / "bad.png").write_bytes(content)
    assert "val/b/bad.png" in prepared(root)
    for file in (root.parent / "index").iterdir():
        file.unlink()
    (root.parent / "index").rmdir()
    assert "1 of 19 images" in refusal(root, verify=True)
    with pytest.raises(InputError, match=r"bad\.png should be an image, but it cannot be decoded: "):
        decoding.open_image(root / "val" / "b" / "bad.png")


def test_a_file_that_became_a_pipe_is_not_waited_for(root: Path) -> None:
    prepared(root)
    victim = root / "val" / "b" / "1.png"
    victim.unlink()
    os.mkfifo(victim)
    test = image_folder.load(root.parent / "index" / "test.safetensors")
    with pytest.raises(InputError, match=r"1\.png should be an image, but is a pipe"):
        list(test.batches(0, len(test.paths), 4))


def test_a_wrong_ending_is_no_fault(root: Path) -> None:
    """As in ImageNet, where n02105855_2933.JPEG is a PNG."""
    for file in (root / "val" / "a").iterdir():
        file.rename(file.with_suffix(".JPEG"))
    assert prepared(root, verify=True) == of_torchvision(root)


# folders


def test_classes_may_be_links_and_files_next_to_them_do_not_count(root: Path, tmp_path: Path) -> None:
    (root / "train" / "a").rename(tmp_path / "elsewhere")
    (root / "train" / "a").symlink_to(tmp_path / "elsewhere")
    (root / "train" / "a.tar").touch()
    (root / "train" / "README").touch()
    (root / "train" / ".cache").mkdir()
    (root / "val" / "b" / ".DS_Store").touch()
    (root / "val" / "b" / "._0.png").touch()
    assert prepared(root) == of_torchvision_without(root, ".cache")


def of_torchvision_without(root: Path, hidden: str) -> dict[str, int]:
    (root / "train" / hidden).rmdir()
    return of_torchvision(root)


@pytest.mark.parametrize("target", ["..", ".", "../..", "/"])
def test_links_that_lead_back_are_not_followed(root: Path, target: str) -> None:
    for part in ("train", "val"):
        (root / part / "back").symlink_to(target)
    said = refusal(root)
    assert "back" in said


def test_links_that_lead_nowhere_lose_no_class(root: Path) -> None:
    for part in ("train", "val"):
        (root / part / "gone").symlink_to("nowhere")
    assert "train/gone is a link that leads nowhere" in refusal(root)
    for part in ("train", "val"):
        (root / part / "gone").unlink()
        (root / part / "gone").symlink_to("gone")
    assert "train/gone is a link that leads nowhere" in refusal(root)


def test_folders_within_a_class_are_refused_links_to_them_too(root: Path) -> None:
    (root / "train" / "b" / "more").mkdir()
    assert "train/b/more is a folder within that of a class" in refusal(root)
    (root / "train" / "b" / "more").rmdir()
    (root / "train" / "b" / "more.jpg").symlink_to(root)
    assert "train/b/more.jpg is a folder within that of a class" in refusal(root)


def test_a_class_that_is_a_file_in_one_part_is_named(root: Path) -> None:
    for file in (root / "val" / "c").iterdir():
        file.unlink()
    (root / "val" / "c").rmdir()
    (root / "val" / "c").touch()
    assert f"{root}/val lacks 1 of the classes that {root}/train has: c. Complete it" in refusal(root)


@pytest.mark.parametrize("denied", ["train", "train/b"])
def test_folders_that_cannot_be_read_are_named(root: Path, monkeypatch: pytest.MonkeyPatch, denied: str) -> None:
    """By a stand-in, since root may read everything."""
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if not isinstance(path, int) and Path(path) == root / denied:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert f"{root / denied} cannot be read (Permission denied). Give access" in refusal(root)


def test_a_root_that_source_json_cannot_name_is_refused(tmp_path: Path) -> None:
    root = fill(tmp_path / os.fsdecode(b"im\xff") / "imagenet")
    assert "should be UTF-8, but is not" in refusal(root)
