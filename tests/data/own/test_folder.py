"""What is wrong with a folder of images is said as what it is, in one line."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from daar.data.own import definition
from daar.errors import InputError
from tests.data.own.folders import fill, picture


def define(root: Path) -> definition.OwnDataset:
    return definition.define("pets", {"folder": str(root), "size": 8}, "suite.yaml: datasets.pets")


def within(root: Path) -> None:
    fill(root, {"a": 5, "b": 5})
    (root / "a" / "more").mkdir()


def parts(root: Path) -> None:
    for part in ("train", "val", "test"):
        fill(root / part, {"a": 5, "b": 5})


def without(part: str, name: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        parts(root)
        shutil.rmtree(root / part / name)

    return make


def alone(root: Path) -> None:
    fill(root / "train", {"a": 5, "b": 5})


def no_train(root: Path) -> None:
    parts(root)
    shutil.rmtree(root / "train")


def more_than_parts(root: Path) -> None:
    parts(root)
    (root / "labels").mkdir()


def one_folder(root: Path) -> None:
    fill(root / "data", {"a": 5, "b": 5})


def flat(root: Path) -> None:
    root.mkdir()
    for index in range(3):
        picture(index).save(root / f"{index}.png")


def a_file(root: Path) -> None:
    root.write_text("")


def other_files(root: Path) -> None:
    fill(root, {"a": 5, "b": 0})
    (root / "b" / "readme.txt").write_text("")


def lost(root: Path) -> None:
    fill(root, {"a": 5, "b": 5})
    (root / "c").symlink_to(root / "nowhere")


def of(**classes: int) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        fill(root, classes)

    return make


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: None, "/pets is not there"),
        (a_file, "/pets is no folder"),
        (Path.mkdir, "holds no images"),
        (flat, "holds 3 images, but no folders of classes"),
        (of(a=7), "has one class, a; expected two or more"),
        (of(a=3, b=5), "has 3 images of the class a; expected 5 or more"),
        (of(a=3), "has one class, a"),
        (of(a=5, b=0), "/b has no images"),
        (other_files, "/b has no images"),
        (within, "/a/more is a folder within that of a class"),
        (one_folder, "holds one folder, data, with folders in it.* name .*/pets/data instead"),
        (alone, "has train, but neither val nor test.* name .*/pets/train, which is then split by hash"),
        (no_train, "has val and test, but no train"),
        (more_than_parts, "holds train and next to it labels"),
        (without("test", "b"), "/test lacks the class b, which .*/train has"),
        (without("train", "b"), "/train lacks the class b, which .*/val has"),
    ],
)
def test_one_line(tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    root = tmp_path / "pets"
    make(root)
    with pytest.raises(InputError, match=f"^suite.yaml: datasets.pets: .*{said}") as error:
        define(root)
    assert "\n" not in str(error.value)


def test_a_class_that_is_a_link_to_nothing(tmp_path: Path) -> None:
    lost(tmp_path / "pets")
    with pytest.raises(InputError, match="/pets/c is a link that leads nowhere"):
        define(tmp_path / "pets")


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "pets", {"a": 5, "b": 5})

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(InputError, match=r"pets cannot be read \(Permission denied\)"):
        define(tmp_path / "pets")


def test_links_are_followed_and_hidden_entries_passed_over(tmp_path: Path) -> None:
    root = fill(tmp_path / "pets", {"a": 5})
    fill(tmp_path / "elsewhere", {"b": 5}, first=5)
    (root / "b").symlink_to(tmp_path / "elsewhere" / "b")
    (root / ".git").mkdir()
    (root / "a" / ".DS_Store").write_text("")
    (root / "a" / "Thumbs.db").write_text("")
    (root / "readme.txt").write_text("")
    made = define(root)
    assert made.classes == ("a", "b")
    assert made.splits == {"train": 6, "val": 2, "test": 2}


@pytest.mark.parametrize(
    ("there", "splits", "official"),
    [
        ({"train": 20, "val": 5, "test": 6}, {"train": 40, "val": 10, "test": 12}, (50, 12)),
        ({"train": 20, "test": 6}, {"train": 36, "val": 4, "test": 12}, (40, 12)),
        ({"train": 20, "val": 5}, {"train": 36, "val": 4, "test": 10}, (40, 10)),
        ({"": 20}, {"train": 28, "val": 4, "test": 8}, (40, 0)),
        ({"": 5}, {"train": 6, "val": 2, "test": 2}, (10, 0)),
    ],
)
def test_splits(tmp_path: Path, there: dict[str, int], splits: dict[str, int], official: tuple[int, int]) -> None:
    for part, count in there.items():
        fill(tmp_path / part, {"a": count, "b": count})
    made = define(tmp_path)
    assert made.splits == splits
    assert (made.official_train, made.official_test) == official
