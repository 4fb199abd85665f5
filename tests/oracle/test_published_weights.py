"""What a criterion has to show on a real network: published ResNet-56 weights, real CIFAR-10, BN recalibrated, untuned.

The weights have seen all train images, our val among them, so accuracy is on test images; nothing is chosen by it.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from daar.api import Batch
from daar.checkpoint import checkpoint
from daar.data import packed
from daar.data.calibration import calibration_batch
from daar.data.packed import Pack
from daar.measure.accuracy import evaluate
from daar.methods import discovery
from daar.pruning import policies
from daar.pruning.closed_form import ClosedForm
from daar.pruning.groups import ChannelGraph, channel_graph
from daar.pruning.planning import make_plan
from daar.pruning.slim import slim
from daar.stages.import_weights import import_weights
from daar.training.recalibrate import recalibrate
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
REDUCTIONS = (0.3, 0.5, 0.7)
DRAWS = range(5)


@dataclass
class Bench:
    """The dense network and all that is needed to prune and judge it."""

    model: nn.Module
    graph: ChannelGraph
    calibration: Batch
    test: Pack

    def scores(self, method: str, **options: object) -> dict[str, Tensor]:
        """Importance of every filter."""
        function = discovery.load(discovery.get(method)).score
        return function(self.model, self.calibration, self.graph.scored_layers(), **options)

    def top1(self, scores: dict[str, Tensor], reduction: float) -> float:
        """Percent of the test images right, with this fraction of the MACs of the residual blocks' convs removed."""
        inner = [group.name for group in self.graph.in_scope("inner")]
        macs = ClosedForm(self.graph)
        dense = macs({})
        # all MACs but those that stay whatever the inner widths are
        movable = dense - (2 * macs(dict.fromkeys(inner, 2)) - macs(dict.fromkeys(inner, 4)))
        plan = make_plan(
            self.graph,
            scores,
            policies.get("uniform"),
            loss=lambda _: 0.0,
            options={},
            method="",
            policy_name="uniform",
            scope="inner",
            target=reduction * movable / dense,
        )
        slimmed = slim(self.model, self.graph, plan.removed(self.graph))
        recalibrate(slimmed, self.calibration.images)
        return evaluate(slimmed.to(memory_format=torch.channels_last), self.test, MEAN, STD, CPU).top1


@pytest.fixture(scope="module")
def bench(real_data: Path, real_cifar10: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    weights = real_data / "checkpoints" / "resnet56-4bfd9763.th"
    if not weights.exists():
        pytest.skip("no published ResNet-56 weights here")
    folder = tmp_path_factory.mktemp("published")
    import_weights(file=weights, network="resnet56", dataset="cifar10", out=folder / "r56", mean=MEAN, std=STD)
    model, _ = checkpoint.load(folder / "r56")
    train, test = (packed.load(real_cifar10 / f"{split}.safetensors") for split in ("train", "test"))
    batch = Batch(*calibration_batch(train, 0, 640, MEAN, STD))
    return Bench(model.eval(), channel_graph(model, batch.images[:1]), batch, test)


@pytest.fixture(scope="module")
def random_mean(bench: Bench) -> dict[float, float]:
    draws = [bench.scores("random", seed=seed) for seed in DRAWS]
    means = {r: sum(bench.top1(scores, r) for scores in draws) / len(draws) for r in REDUCTIONS}
    print("random", {r: round(top1, 2) for r, top1 in means.items()})
    return means


@pytest.mark.parametrize("method", ["l1", "fpgm", "daar", "hrank"])
def test_a_criterion_beats_random_filters_at_the_same_widths(
    bench: Bench, random_mean: dict[float, float], method: str
) -> None:
    scores = bench.scores(method)
    found = {reduction: bench.top1(scores, reduction) for reduction in REDUCTIONS}
    print(method, {r: round(top1, 2) for r, top1 in found.items()})
    if method != "hrank":  # reported, whichever way it falls
        assert all(found[reduction] > random_mean[reduction] for reduction in REDUCTIONS)
