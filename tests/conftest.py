"""What several test modules share: real packed digits, a small trained network, and the real CIFAR-10 where it is."""

import gc
import math
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from daar.data import datasets, packed
from daar.stages.train import train
from daar.training import engine
from daar.training.recipe import Recipe
from tests.processes import ending
from tests.sharing import made_once

REPOSITORY = Path(__file__).resolve().parents[1]

# how long an example takes says what else runs on the machine
settings.register_profile("short", deadline=None, max_examples=25)
settings.register_profile("long", deadline=None, max_examples=100)


def pytest_configure(config: pytest.Config) -> None:
    """Fewer examples of properties where long forms are left out."""
    settings.load_profile("short" if config.option.markexpr == "not slow" else "long")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole suites first: each of these files keeps one of pytest-xdist's processes busy for minutes."""
    items.sort(key=lambda item: ("workflow" not in item.path.parts, item.path.stem != "test_end_to_end"))


def pytest_collection_finish() -> None:
    """Modules and tests live to the end: the garbage collector, which tests call as well, need not look at them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    """Two threads for a process alone, one each for pytest-xdist's processes side by side."""
    side_by_side = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1
    torch.set_num_threads(1 if side_by_side else 2)


@pytest.fixture(scope="session", autouse=True)
def _saved_after_each_epoch() -> None:
    """Epochs of tests are as short as a save, after which a training would not save each time."""
    engine.SAVE_SHARE = math.inf


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> None:
    """What runs in a shell's background ignores Ctrl-C, and so would every process that a test starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _environment_as_before() -> Iterator[None]:
    """Commands tell the processes that they start where folders are by variables, which hold in this process too."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _nothing_outlives_its_test() -> Iterator[None]:
    with ending():
        yield


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of scikit-learn's digits, packed."""
    return packed.prepare(datasets.get("digits"), tmp_path_factory.mktemp("data") / "digits")


@pytest.fixture(scope="session")
def dense(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a ResNet-20 checkpoint trained for two epochs on digits."""

    def make(folder: Path) -> None:
        recipe = Recipe(epochs=2, lr=0.05, batch_size=64, precision="float32")
        options: dict[str, Any] = {"recipe": recipe, "seed": 0, "device": torch.device("cpu"), "say": lambda _: None}
        train(network="resnet20", packs=digits, out=folder, **options)

    out = tmp_path_factory.mktemp("dense")
    return shutil.copytree(made_once("dense", make, tmp_path_factory), out, dirs_exist_ok=True)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the published datasets and weights that developers and CI have."""
    root = Path(os.environ.get("DAAR_DATA_ROOT") or REPOSITORY.parent / "shared" / "data")
    if not (root / "cifar10").is_dir():
        pytest.skip("no real CIFAR-10 here: set DAAR_DATA_ROOT")
    return root


@pytest.fixture(scope="session")
def real_cifar10(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the real CIFAR-10, packed; only to be read."""

    def make(folder: Path) -> None:
        packed.prepare(datasets.get("cifar10"), folder, data_root=real_data)

    return made_once("cifar10", make, tmp_path_factory)
