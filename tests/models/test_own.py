"""Networks of one's own: files in folders, found without being run, and refused in one line where they are none."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from daar import models
from daar.code.sources import Sources
from daar.errors import InputError
from daar.models import own
from daar.run import code

SMALL = """
from torch import nn
TITLE = "Small"
INPUT_SHAPE = (3, 8, 8)
def build(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, num_classes))
"""


@pytest.fixture(autouse=True)
def _no_folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(own.FOLDERS, raising=False)
    own.use([])
    yield
    own.use([])


def network(folder: Path, text: str = SMALL, name: str = "small") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(text)
    own.use([folder])
    return folder / f"{name}.py"


def test_a_file_is_a_network_and_is_not_run_to_be_found(tmp_path: Path) -> None:
    mark = tmp_path / "run"
    file = network(tmp_path / "networks", f"open({str(mark)!r}, 'w').close()\n{SMALL}")
    found = models.get("small")
    assert (found.name, found.title, found.input_shape) == ("small", "Small", (3, 8, 8))
    assert models.title("small") == "Small"
    assert not mark.exists()
    model = found.build(5)
    assert mark.exists()
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 5)
    assert model.training
    assert found.code(["build"]) == [f"{file}:*"]
    assert found.code([]) == []


def test_a_network_is_drawn_from_the_generator_alone(tmp_path: Path) -> None:
    """Also the first time, when its file is run, which may draw numbers of its own."""
    network(tmp_path, f"import torch\ntorch.rand(3)\n{SMALL}")
    drawn = []
    for _ in range(2):
        torch.manual_seed(7)
        drawn.append(torch.cat([value.flatten() for value in models.get("small").build(5).parameters()]))
    assert torch.equal(*drawn)


def test_the_shape_may_be_annotated(tmp_path: Path) -> None:
    network(tmp_path, SMALL.replace("INPUT_SHAPE = ", "INPUT_SHAPE: tuple[int, int, int] = "))
    assert models.get("small").input_shape == (3, 8, 8)


def test_files_share_code_and_what_is_shared_counts(tmp_path: Path) -> None:
    shared = tmp_path / "_shared.py"
    shared.write_text("WIDTH = 4\n")
    network(tmp_path, "from ._shared import WIDTH\n" + SMALL.replace("3, 4, 3", "3, WIDTH, 3"))
    assert list(models.of_folders()) == ["small"]
    assert models.get("small").build(5)(torch.zeros(1, 3, 8, 8)).shape == (1, 5)
    before = hashed()
    shared.write_text("# said otherwise\nWIDTH = 4\n")
    assert hashed() == before
    shared.write_text("WIDTH = 5\n")
    assert hashed() != before


def hashed() -> str:
    return code.of("train", network="small", sources=Sources(code.HERE.root))


def test_results_count_by_what_the_file_does(tmp_path: Path) -> None:
    file = network(tmp_path)
    before = hashed()
    file.write_text(f"# a comment\n{SMALL}")
    assert hashed() == before
    (tmp_path / "elsewhere").mkdir()
    network(tmp_path / "elsewhere")
    assert hashed() == before
    network(tmp_path / "elsewhere", SMALL.replace("nn.ReLU()", "nn.GELU()"))
    assert hashed() != before


def test_weights_of_ones_own(tmp_path: Path) -> None:
    network(tmp_path, f"{SMALL}\ndef initialise(model):\n    nn.init.zeros_(model[0].weight)\n")
    model = models.get("small").build(5)
    models.get("small").initialise(model)
    first = model.get_submodule("0")
    assert isinstance(first, nn.Conv2d)
    assert not first.weight.any()


def test_folders_of_the_environment_and_of_the_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network(tmp_path / "one", name="first")
    network(tmp_path / "two", name="second")
    assert list(models.of_folders()) == ["second"]
    monkeypatch.setenv(own.FOLDERS, str(tmp_path / "two"))
    monkeypatch.chdir(tmp_path)
    own.export([Path("one")])
    assert os.environ[own.FOLDERS] == os.pathsep.join(str(tmp_path / name) for name in ("one", "two"))
    assert list(models.of_folders()) == ["first", "second"]
    with pytest.raises(InputError, match="has a ':' in its path"):
        own.export([Path("a:b")])


HEAD = "from torch import nn\nINPUT_SHAPE = (3, 8, 8)\ndef build(num_classes):\n    "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", r"should define build\(num_classes\), but has no such function"),
        ("def build(): pass", "its build takes no argument"),
        ("def build(:", r"is not Python: invalid syntax \(small.py, line 1\)"),
        ("\0", "is not Python"),
        ("def build(num_classes): pass", "INPUT_SHAPE = .* got nothing"),
        ("INPUT_SHAPE = (3, 8)\ndef build(n): pass", r"got \(3, 8\)"),
        ("INPUT_SHAPE = (3, 8, True)\ndef build(n): pass", r"got \(3, 8, True\)"),
        ("INPUT_SHAPE = (1, 8, 8)\ndef build(n): pass", r"got \(1, 8, 8\)"),
        ("N = 8\nINPUT_SHAPE = (3, N, N)\ndef build(n): pass", r"got \(3, N, N\)"),
        ("INPUT_SHAPE = (3, 0, 8)\ndef build(n): pass", "sides are from 1 to 4,096"),
        (f"from os import *\n{SMALL}", r"has `import \*`"),
    ],
)
def test_what_is_no_network(tmp_path: Path, text: str, said: str) -> None:
    network(tmp_path, text)
    with pytest.raises(InputError, match=said) as error:
        models.get("small")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"import no_such_package\n{SMALL}", "fails to import: ModuleNotFoundError"),
        (f"import sys\nsys.exit('bye')\n{SMALL}", "fails to import: SystemExit: bye"),
        (f"{HEAD}raise ValueError('a\\nb')", r"build\(5\) of .*small.py fails: ValueError: a b"),
        (f"{HEAD}return None", "should return a torch.nn.Module, but returns a NoneType"),
        (f"{HEAD}return nn.Linear(7, 5)", "fails on an image of 8x8: RuntimeError"),
        (f"{HEAD}return nn.Sequential(nn.Flatten(), nn.Linear(192, 7))", r"logits of \(1, 5\).* gives .*\(1, 7\)"),
        (f"{HEAD}return nn.Conv2d(3, num_classes, 3)", r"gives a tensor of \(1, 5, 6, 6\)"),
        (f"{HEAD}return nn.LSTM(8, 5)", "fails on an image"),
    ],
)  # fmt: skip
def test_what_builds_no_network(tmp_path: Path, text: str, said: str) -> None:
    network(tmp_path, text)
    with pytest.raises(InputError, match=said) as error:
        models.get("small").build(5)
    assert "\n" not in str(error.value)


def test_names_that_cannot_be(tmp_path: Path) -> None:
    network(tmp_path / "a", name="resnet20")
    with pytest.raises(InputError, match="has the name of a network that daar has already"):
        models.get("small")
    assert models.get("resnet20").module == "daar.models.resnet_cifar"
    network(tmp_path / "b", name="a-b")
    with pytest.raises(InputError, match="letters, digits and _"):
        models.get("small")
    network(tmp_path / "c")
    network(tmp_path / "d")
    own.use([tmp_path / "c", tmp_path / "d"])
    with pytest.raises(InputError, match="two networks are named 'small'"):
        models.get("small")
    own.use([tmp_path / "c", tmp_path / "x" / ".." / "c"])
    assert models.get("small").name == "small"
    own.use([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="does not exist"):
        models.get("small")
