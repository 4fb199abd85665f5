"""Published loops are other people's code and not kept here: a stand-in of the same shape takes their place."""

import os
import random
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from daar import bench
from daar.bench import foreign, published
from daar.bench.harness import Options, measure
from daar.cli import main
from daar.errors import InputError

CPU = torch.device("cpu")
OPTIONS = Options(CPU, steps=2, lead=1, train_images=384)
# forking with threads about is what a DataLoader does; Python warns of it from 3.12 on
FORKS = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

NETWORKS = """
import torch.nn as nn

def resnet20():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))

resnet56 = resnet20
"""

TRAINER = """
import argparse, os, random, sys, warnings
import torch
import resnet

parser = argparse.ArgumentParser()
parser.add_argument("--arch")
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--momentum", type=float, default=0.9)
parser.add_argument("--weight-decay", type=float, default=1e-4)
at_import = parser.parse_args()
os.environ["STAND_IN"] = "was here"
random.seed(0)
torch.manual_seed(0)
print("imported")

def train(train_loader, model, criterion, optimizer, epoch):
    print("epoch", epoch, args.arch, file=sys.stderr)
    warnings.warn("old", FutureWarning)
    for i, (images, target) in enumerate(train_loader):
        images, target = images.cuda(), target.cuda(non_blocking=True)
        loss = criterion(model(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"{i + 1}/{len(train_loader)} {loss.item():.3f}")
"""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Two threads wait for each other at every layer once something else is running, loaders' workers for one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A stand-in with the files and the interface of akamaster's."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "resnet.py").write_text(NETWORKS)
    (folder / "trainer.py").write_text(TRAINER)
    return folder


def run(folder: Path, name: str = "published-akamaster-resnet20") -> None:
    (benchmark,) = bench.select(bench.catalogue([f"akamaster={folder}"]), [name])
    result = measure(benchmark, OPTIONS, 1)
    assert result.compared is not None
    assert result.compared.median > 0
    assert "akamaster/pytorch_resnet_cifar10, train of trainer.py (SHA-256 " in result.what[1]


# the catalogue


def test_published_loops_are_there_only_with_their_folders(checkout: Path) -> None:
    plain = list(bench.catalogue())
    assert not any(name.startswith("published") for name in plain)
    stem = "published-akamaster-resnet"
    more = list(bench.catalogue([f"akamaster={checkout}"]))
    assert more == [f"{stem}20", f"{stem}20-float32", f"{stem}56", f"{stem}56-float32", *plain]


@pytest.mark.parametrize("loop", published.LOOPS.values(), ids=list(published.LOOPS))
def test_every_loop_names_its_source(loop: published.Published) -> None:
    owner, _, name = loop.repository.partition("/")
    assert owner
    assert name
    assert len(loop.commit) == 40
    assert set(loop.networks) <= set(published.TITLES)


# errors


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("akamaster", "takes NAME=FOLDER, got 'akamaster'"),
        ("akamaster=", "takes NAME=FOLDER, got 'akamaster='"),
        ("nobody=.", "unknown published loop 'nobody'; there are: akamaster, fpgm, hrankplus."),
        ("akamaster=nowhere", "nowhere is no folder. Run: git clone https://github.com/akamaster/"),
    ],
)
def test_what_is_no_checkout_is_told_in_one_line(
    item: str, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "--published", item, "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_option_may_be_repeated(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--published", f"akamaster={checkout}", "--published", f"akamaster={checkout}"]
    with pytest.raises(SystemExit):
        main(["bench", *given])
    assert "names akamaster twice" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["trainer.py", "resnet.py"])
def test_a_missing_file_is_named(checkout: Path, file: str) -> None:
    (checkout / file).unlink()
    with pytest.raises(InputError, match=rf"has the file {file}, but .*checkout has none\. Name the top folder"):
        bench.catalogue([f"akamaster={checkout}"])


@FORKS
@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import no_such_thing",
            "ModuleNotFoundError: No module named 'no_such_thing'. It is known to run at commit d5489",
        ),
        ("raise SystemExit(2)", "SystemExit: 2. It is known"),
        (TRAINER.replace("loss.backward()", "loss.backwards()"), "AttributeError: 'Tensor' object has no attribute"),
    ],
)
def test_their_failures_are_told_with_the_commit_that_runs(checkout: Path, source: str, words: str) -> None:
    (checkout / "trainer.py").write_text(source)
    with pytest.raises(InputError) as failed:
        run(checkout)
    assert words in str(failed.value)
    assert "\n" not in str(failed.value)
    assert "cuda" not in vars(torch.Tensor)


# what is adapted is undone


@FORKS
def test_a_loop_leaves_nothing_behind(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = ModuleType("resnet")
    monkeypatch.setitem(sys.modules, "resnet", ours)
    before = (list(sys.argv), list(sys.path), list(sys.meta_path), dict(os.environ), torch.backends.cudnn.benchmark)
    dice = random.getstate()
    moves = nn.Module.cuda
    with warnings.catch_warnings(record=True) as caught:
        run(checkout)
    assert not [warning for warning in caught if warning.category is FutureWarning]
    assert (sys.argv, sys.path, sys.meta_path, dict(os.environ), torch.backends.cudnn.benchmark) == before
    assert random.getstate() == dice
    assert sys.modules["resnet"] is ours
    assert nn.Module.cuda is moves
    assert "cuda" not in vars(torch.Tensor)
    assert capsys.readouterr() == ("", "")
    assert sorted(file.name for file in checkout.iterdir()) == ["resnet.py", "trainer.py"]
    assert (checkout / "trainer.py").read_text() == TRAINER


def test_cuda_is_the_device_there_is_while_their_code_runs() -> None:
    tensor, layer = torch.zeros(1), nn.Linear(1, 1)
    before = torch.backends.cudnn.benchmark
    with foreign.adapted(CPU):
        assert tensor.cuda() is tensor
        assert tensor.cuda(non_blocking=True) is tensor
        assert layer.cuda() is layer
        assert torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.benchmark == before
    assert "cuda" not in vars(torch.Tensor)


def test_on_a_gpu_cuda_stays_as_it_is() -> None:
    with foreign.adapted(torch.device("cuda")):
        assert "cuda" not in vars(torch.Tensor)


def test_what_has_been_renamed_is_so_in_every_file_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "sums.py").write_text("def double(x): return old_name(x)\nold_name = lambda x: 2 * x\n")
    (tmp_path / "script.py").write_text("import sys\nfrom parts import sums\ngiven = dict(async=sys.argv[1:])\n")
    module = foreign.load(tmp_path / "script.py", ["--x", "1"], {"async=": "waits=", "old_name": "new_name"})
    assert module.given == {"waits": ["--x", "1"]}
    assert module.sums.double(2) == 4
    assert hasattr(module.sums, "new_name")
    assert not {"parts", "parts.sums"} & set(sys.modules)
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_pass_has_exactly_so_many_batches() -> None:
    stream = iter([(torch.tensor(i), torch.tensor(i)) for i in range(9)])
    batches = published.Batches(stream, 3)
    assert len(batches) == 3
    assert [[int(images) for images, _ in batches] for _ in range(2)] == [[0, 1, 2], [3, 4, 5]]


# the real ones


@FORKS
@pytest.mark.parametrize("name", published.LOOPS)
def test_the_published_loop_itself_runs(name: str) -> None:
    checkouts = os.environ.get("DAAR_PUBLISHED")
    if not checkouts:
        pytest.skip("no published loops here: set DAAR_PUBLISHED to a folder of their checkouts")
    loop = published.LOOPS[name]
    folder = Path(checkouts) / loop.repository.partition("/")[2]
    if not folder.is_dir():
        pytest.skip(f"no {folder.name} in DAAR_PUBLISHED: git clone {loop.address} there")
    for benchmark in published.benchmarks([f"{name}={folder}"]):
        if not benchmark.name.endswith("-float32"):
            result = measure(benchmark, Options(CPU, steps=1, lead=1, train_images=256), 1)
            assert result.compared is not None
            assert result.compared.median > 0
