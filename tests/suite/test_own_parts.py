"""A suite with networks and datasets of one's own: what it takes, how results are named, and what makes them again."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daar.data import datasets
from daar.errors import InputError
from daar.models import own
from daar.run import jobs, preflight, reuse
from daar.run.dag import Dag
from daar.run.jobs import Where
from daar.suite import reading
from daar.suite.definition import Suite
from tests.data.own.folders import fill, picture

NETWORK = """
from torch import nn
INPUT_SHAPE = (3, 8, 8)
def build(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, num_classes))
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(own.FOLDERS, raising=False)
    monkeypatch.setattr(datasets, "_own", {})
    fill(tmp_path / "pets", {"a": 10, "b": 10})
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks" / "small.py").write_text(NETWORK)


def suite(**changes: Any) -> Suite:
    content = {
        **{"suite": "mine", "datasets": {"pets": {"folder": "pets", "size": 8}}, "networks": ["small"]},
        **{"networks_dirs": ["networks"], "methods": ["l1"], "macs_reductions": [0.5], "seeds": [0]},
        **{"calibration_images": 8, "finetune": {"epochs": 1}, **changes},
    }
    return reading.from_config({key: value for key, value in content.items() if value is not None}, "suite.yaml")


def test_one_is_read() -> None:
    made = suite()
    assert made.datasets == ("pets",)
    assert datasets.get("pets").shape == (3, 8, 8)
    assert made.settings[0].path == "pets/small/seed0/l1/uniform-all-0.5"
    assert preflight.problems(made, Path("results/data")) == []


def test_the_rule_is_told_what_the_dataset_is() -> None:
    entry = {"folder": "pets", "size": 8, "crop": False, "flip": True, "title": "My pets"}
    dag = Dag(suite(datasets={"pets": entry}))
    options = dag.own_data_options(SimpleNamespace(dataset="pets"))
    assert options == ["--folder=pets", "--size=8", "--no-crop", "--flip", "--title=My pets"]
    assert dag.own_data == "pets"


def test_jobs_find_the_networks(tmp_path: Path) -> None:
    jobs.export_environment(suite(), Where())
    own.use([])
    assert list(own.find()) == ["small"]
    assert own.find()["small"].file == tmp_path / "networks" / "small.py"


def test_names_of_libraries_are_safe_in_paths() -> None:
    made = suite(networks=["torchvision:resnet18", "torchvision:vgg11_bn@8"], base=None)
    assert made.networks == ("torchvision-resnet18-8", "torchvision-vgg11_bn-8")
    assert made.settings[0].path == "pets/torchvision-resnet18-8/seed0/l1/uniform-all-0.5"
    imported = suite(networks=["torchvision:resnet18"], base={"torchvision:resnet18": {"file": "weights.pt"}})
    assert set(imported.base) == {"torchvision-resnet18-8"}


def test_what_a_record_was_made_from() -> None:
    def made_from() -> str:
        made = suite()
        return reuse.made_from(made, made.settings[0])

    before = made_from()
    assert made_from() == before
    file = Path("networks", "small.py")
    file.rename(Path("networks", "_small.py"))
    Path("elsewhere").mkdir()
    Path("elsewhere", "small.py").write_text(f"# moved\n{NETWORK}")
    Path("pets").rename("beasts")
    elsewhere = suite(networks_dirs=["elsewhere"], datasets={"pets": {"folder": "beasts", "size": 8}})
    assert reuse.made_from(elsewhere, elsewhere.settings[0]) == before
    picture(50).save("beasts/a/new.png")
    more = suite(networks_dirs=["elsewhere"], datasets={"pets": {"folder": "beasts", "size": 8}})
    assert reuse.made_from(more, more.settings[0]) != before


def test_daar_s_own_datasets_in_the_same_form() -> None:
    assert suite(datasets={"digits": {}}, networks=["resnet20"], calibration_images=8).datasets == ("digits",)
    assert suite(datasets={"digits": None}, networks=["resnet20"]).datasets == ("digits",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"networks_dirs": None}, "unknown network 'small'.*networks_dirs in a suite"),
        ({"networks_dirs": ["nowhere"]}, "nowhere does not exist"),
        ({"networks_dirs": ["nowhere"], "networks": ["torchvision:resnet18"]}, "nowhere does not exist"),
        ({"networks": ["smal"]}, "unknown network 'smal'; there are: .*small"),
        ({"datasets": {"pets": {}}}, "unknown dataset 'pets'"),
        ({"datasets": {"pets": {"folder": "cats", "size": 8}}}, r"suite\.yaml: datasets\.pets: cats is not there"),
        ({"datasets": {"pets": {"folder": "pets", "size": 9}}}, r"small takes \(3, 8, 8\) images, but .* pets are"),
        ({"datasets": {"pets": {"folder": "pets", "size": 7}}}, "datasets.pets.size: 7 is less than the minimum of 8"),
        ({"datasets": {"pets": {"folder": "pets", "size": 8.5}}}, "datasets.pets.size: 8.5 is not of type 'integer'"),
        ({"datasets": {"pets": {"folder": "pets", "size": 8, "colour": 1}}}, "known keys are crop, flip, folder"),
        ({"datasets": {"pets": {"folder": "x" * 300, "size": 8}}}, r"datasets\.pets\.folder has a name of 300 bytes"),
        ({"datasets": {}}, "should be non-empty"),
        ({"networks_dirs": ["x" * 300]}, "networks_dirs has a name of 300 bytes"),
        ({"calibration_images": 100}, "calibration_images is 100, but pets has 14 train images"),
        ({"networks": ["torchvision:resnet18", "torchvision:resnet18@8"]}, "names 'torchvision-resnet18-8' twice"),
        ({"networks": ["torchvision:resnet18@16"]}, r"takes \(3, 16, 16\) images"),
        ({"networks": ["torchvision:../x"]}, "Names are of letters"),
    ],
)  # fmt: skip
def test_bad_input(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        suite(**changes)
    assert "\n" not in str(error.value)


def test_text_from_the_command_line() -> None:
    """Snakemake hands numbers on as text."""
    assert suite(datasets={"pets": {"folder": "pets", "size": "8"}}).datasets == ("pets",)
