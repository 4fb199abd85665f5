"""What a suite's trainings cost where nothing was measured: FLOPs, and the throughput to assume.

`daar suite check` measures instead (daar/run/estimate.py). Imported while the DAG is built: neither torch nor numpy.
"""

from daar import models
from daar.data import datasets
from daar.suite.definition import Suite

# FLOP/s. A core: each of the two in docs/performance.md ("Share of the machine's peak") trains ResNet-20 at 120e9 in
# float32 and 200e9 in bfloat16; slim networks, older processors and shared machines leave less than half of that. A GPU
# was not measured: 20,000 images/s of ResNet-20, since small images are small kernels, which the GPU waits for.
_PER_CORE, _PER_GPU = 5e10, 5e12
# 2 for each multiply-accumulate, in the forward pass and in the two products of the backward pass
_FLOPS_PER_MAC = 6


def throughput(*, gpu: bool, cores: int = 1) -> float:
    """FLOP/s of a training to assume, rough on purpose.

    Args:
        gpu: whether it has a GPU; then its cores do not count.
        cores: of the CPU.
    """
    return _PER_GPU if gpu else _PER_CORE * cores


def epoch_flops(dataset: str, network: str) -> float:
    """FLOPs of one epoch of a dense network."""
    return float(_FLOPS_PER_MAC * models.get(network).macs * datasets.get(dataset).train)


def training_flops(suite: Suite) -> float:
    """FLOPs of all trainings and fine-tunings of a suite; the networks of own-rate plans count as dense."""
    total = 0.0
    for dataset in suite.datasets:
        for network in suite.networks:
            dense = epoch_flops(dataset, network)
            if network not in suite.base:
                total += dense * suite.train.epochs * len(suite.seeds)
            cells = [s for s in suite.settings if (s.dataset, s.network) == (dataset, network)]
            total += sum(dense * suite.finetune.epochs * (1 - (cell.target or 0)) for cell in cells)
    return total
