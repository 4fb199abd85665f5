"""Suites whose parts contradict each other, each at its limit."""

from typing import Any

import pytest

from daar.errors import InputError
from daar.suite import reading
from tests.suite.test_reading import SMALL, make

BATCH: dict[str, Any] = {"train": {"epochs": 1, "batch_size": 64}, "finetune": {"epochs": 1, "batch_size": 64}}


@pytest.mark.parametrize("distributed", [{"processes": 2}, {"processes": 32}, {"processes": 4, "nodes": 2}])
def test_processes_that_share_batches_and_nodes_equally(distributed: dict[str, int]) -> None:
    found = make(**BATCH, distributed=distributed)
    assert (found.processes, found.nodes) == (distributed["processes"], distributed.get("nodes", 1))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"distributed": {"processes": 3}}, "train.batch_size is 64; the 3 of distributed.processes cannot share it"),
        # one image each is too few for batch norm
        ({"distributed": {"processes": 64}}, "Choose a multiple of 64 from 128 on."),
        (
            {"distributed": {"processes": 4}, "finetune": {"epochs": 1, "batch_size": 66}},
            "finetune.batch_size is 66; the 4 of distributed.processes cannot share it",
        ),
        ({"distributed": {"processes": 4, "nodes": 3}}, "which 3 nodes cannot share equally. Choose a multiple of 3."),
        ({"networks": ["resnet20", "resnet18"]}, "resnet18 takes (3, 224, 224) images, but those of digits are"),
        (
            {"base": {"resnet20": {"file": "a.th", "mean": [125.3, 123, 113.9]}}},
            "base.resnet20: mean has 125.3, expected 0 to 1, as pixels are in 0..1. Divide what is of pixels in 0..255",
        ),
        (
            {"base": {"resnet20": {"file": "a.th", "std": [0.25, 0.0001, 0.25]}}},
            "base.resnet20: std has 0.0001, expected 0.001 to 1",
        ),
        (
            {"calibration_images": 1258},
            "is 1258, but digits has 1,257 train images. Give 1257 or less.",
        ),
    ],
)
def test_what_contradicts_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        make(**{**BATCH, **changes})
    assert said in str(error.value)


def test_all_train_images_may_calibrate() -> None:
    assert make(calibration_images=1257).calibration_images == 1257


def test_networks_from_scratch_have_a_recipe_of_their_own_where_the_base_is_imported() -> None:
    scratch = {"methods": ["l1"], "variants": {"c": {"scratch_of": "l1"}}}
    base = {"base": {"resnet20": {"file": "a.th"}}}
    assert make(**scratch).base == {}
    assert make(**scratch, **base, train={"epochs": 3}).train.epochs == 3
    assert make(methods=["l1"], variants={"c": {"random_at": "l1"}}, **base).variant("c").of == "l1"
    with pytest.raises(InputError, match="Give one as `train`"):
        make(**scratch, **base)


@pytest.mark.parametrize(("reuse", "latency"), [(True, False), (False, True), (False, False)])
def test_reuse_and_latency_each_go_alone(reuse: bool, latency: bool) -> None:
    found = reading.from_config({**SMALL, "reuse": reuse, "latency": latency}, "here")
    assert (found.reuse, found.latency) == (reuse, latency)
