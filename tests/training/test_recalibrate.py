"""BN recalibration with odd numbers of images; the rest is in test_training_engine.py."""

import pytest
import torch
from torch import nn

from daar.errors import InputError
from daar.training.recalibrate import recalibrate


@pytest.mark.parametrize("count", [2, 5, 8, 9, 10, 12, 13])
def test_statistics_are_the_mean_over_batches_and_no_image_is_left_out(count: int) -> None:
    """Batches of four; a single one left over joins those before it."""
    torch.manual_seed(0)
    images = torch.randn(count, 3, 4, 4)
    norm = nn.BatchNorm2d(3)
    recalibrate(norm, images, batch_size=4)
    ends = {2: [2], 5: [5], 8: [4, 8], 9: [4, 9], 10: [4, 8, 10], 12: [4, 8, 12], 13: [4, 8, 13]}[count]
    batches = [images[start:end].double() for start, end in zip([0, *ends], ends, strict=False)]
    mean = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    variance = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in batches]).mean(0)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var.double(), variance, rtol=1e-5, atol=1e-6)


def test_a_single_image_is_refused_and_statistics_stay() -> None:
    """On maps of one pixel torch would refuse it itself; on larger ones nothing would be seen of it."""
    norm = nn.BatchNorm2d(3)
    norm.running_mean = torch.full((3,), 7.0)
    with pytest.raises(InputError, match="needs two calibration images or more, got 1"):
        recalibrate(norm, torch.randn(1, 3, 4, 4))
    assert norm.running_mean.tolist() == [7, 7, 7]
