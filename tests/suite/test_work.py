"""What trainings cost without a measurement, by hand."""

import pytest

from daar.suite import work
from tests.suite.test_reading import make

MACS = 40_551_040  # He et al. 2016, table 6: ResNet-20, 0.041 G


def test_an_epoch_is_three_passes_of_two_operations_over_the_train_part() -> None:
    assert work.epoch_flops("cifar10", "resnet20") == 3 * 2 * MACS * 45_000


def test_flops_of_a_small_suite() -> None:
    found = make(train={"epochs": 10}, finetune={"epochs": 3}, methods=["l1"], macs_reductions=[0.5])
    assert work.training_flops(found) == pytest.approx(MACS * 6 * 1257 * (10 + 3 * 0.5))


def test_every_seed_and_setting_counts_and_an_imported_network_is_not_trained() -> None:
    of = {"train": {"epochs": 10}, "finetune": {"epochs": 3}, "methods": ["l1", "random"], "seeds": [0, 1]}
    epoch = MACS * 6 * 1257
    found = make(**of, macs_reductions=[0.5, 0.75])
    assert work.training_flops(found) == pytest.approx(epoch * (2 * 10 + 2 * 2 * 3 * (0.5 + 0.25)))
    found = make(**of, macs_reductions=[0.5], base={"resnet20": {"file": "a.th"}})
    assert work.training_flops(found) == pytest.approx(epoch * 2 * 2 * 3 * 0.5)
    nothing = make(finetune={"epochs": 0}, methods=["l1"], base={"resnet20": {"file": "a.th"}})
    assert work.training_flops(nothing) == 0
    own = make(train={"epochs": 10}, finetune={"epochs": 3}, methods=["daar"], macs_reductions=[None])
    assert work.training_flops(own) == pytest.approx(epoch * (10 + 3))
    two = make(train={"epochs": 1}, finetune={"epochs": 0}, methods=["l1"], networks=["resnet20", "resnet56"])
    assert work.training_flops(two) == pytest.approx(6 * 1257 * (MACS + 125_485_696))


def test_cores_add_up_and_do_not_count_next_to_a_gpu() -> None:
    assert work.throughput(gpu=False, cores=8) == 8 * work.throughput(gpu=False)
    assert work.throughput(gpu=True, cores=8) == work.throughput(gpu=True)
    # less than docs/performance.md measured of one of two cores in float32: 1,015 images/s of ResNet-20 on both
    assert work.throughput(gpu=False) < 1015 * 6 * MACS / 2 < work.throughput(gpu=True)
