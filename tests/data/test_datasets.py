import subprocess
import sys

import pytest

from daar.data.datasets import DATASETS, Dataset, get, num_classes
from daar.errors import InputError


def test_cifar10_as_published():
    dataset = get("cifar10")
    assert " ".join(dataset.classes) == "airplane automobile bird cat deer dog frog horse ship truck"
    assert dataset.official == {"train": 50_000, "test": 10_000}
    assert dataset.splits == {"train": 45_000, "val": 5_000, "test": 10_000}
    assert dataset.flip


def test_cifar100_as_published():
    dataset = get("cifar100")
    assert dataset.classes == tuple(sorted(dataset.classes))
    assert (len(dataset.classes), dataset.classes[0], dataset.classes[99]) == (100, "apple", "worm")
    assert dataset.official == {"train": 50_000, "test": 10_000}
    assert dataset.splits == {"train": 45_000, "val": 5_000, "test": 10_000}
    assert dataset.flip
    assert not set(dataset.classes) & set(get("cifar10").classes)  # or a folder of one could pass for the other


def test_digits_is_one_part_and_never_mirrored():
    dataset = get("digits")
    assert dataset.official == {"train": 1_797}
    assert dataset.splits == {"train": 1_257, "val": 180, "test": 360}
    assert not dataset.flip


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
def test_registry_is_consistent(dataset: Dataset) -> None:
    assert DATASETS[dataset.name] is dataset
    assert len(set(dataset.classes)) == len(dataset.classes)
    assert sum(dataset.splits.values()) == sum(dataset.official.values())


def test_unknown_name_lists_the_known():
    with pytest.raises(InputError, match="unknown dataset 'cifar11'; there are: cifar10, cifar100, digits"):
        get("cifar11")


def test_classes_are_known_also_where_their_names_are_those_of_folders():
    assert {name: num_classes(name) for name in ("digits", "cifar10", "cifar100", "imagenet")} == {
        "digits": 10,
        "cifar10": 10,
        "cifar100": 100,
        "imagenet": 1_000,
    }
    with pytest.raises(InputError, match="unknown dataset 'mnist'; there are: cifar10, cifar100, digits, imagenet"):
        num_classes("mnist")


def test_finding_data_imports_nothing_heavy():
    code = (
        "import sys; from pathlib import Path\n"
        "from daar.data.datasets import DATASETS; from daar.data.sources import locate\n"
        "[locate(dataset, Path('nowhere')) for dataset in DATASETS.values()]\n"
        "print(*{'torch', 'torchvision', 'numpy', 'pyarrow', 'sklearn', 'PIL'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
