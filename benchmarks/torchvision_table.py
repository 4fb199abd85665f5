"""Prune each classification network of torchvision by L1 and print how much could be removed, as Markdown.

    python -m benchmarks.torchvision_table [PREFIX …] > docs/torchvision.md

Weights and BN statistics are random: exactness does not depend on them. Transformers without convs are left out.
"""

import gc
import sys
import time
import warnings
from collections import Counter

import torch
import torchvision
from torch import nn

import daar
from daar.errors import InputError
from daar.pruned import Pruned

IMAGES = 2
# tried in this order; if none is in reach, the network has nothing to remove
TARGETS = (0.5, 0.4, 0.3, 0.2, 0.1)
HEAD = f"""# Every classification CNN of torchvision {torchvision.__version__}

Pruned by `daar.prune(model, images, method="l1", macs_reduction=0.5)`, scope `all`, {IMAGES} random images of 224
pixels (299 for Inception), torch {torch.__version__}, on a CPU; weights and BN statistics are random. If half of the
MACs is out of reach, the target is the largest of 40, 30, 20 and 10 % in reach. *Error* is max |slim − masked| /
max |logit| in float64. The next two columns give the number of filters that cannot be removed, and why. Seconds are of
the whole call, with the check in float64, on a busy machine: only their order of magnitude counts. ViT and Swin have no
filters to prune.

Made by `python -m benchmarks.torchvision_table`.

| network | MACs | removed | params removed | error | filters that stay | why | s |
|---|---|---|---|---|---|---|---|"""


def build(name: str) -> nn.Module:
    """A network with random weights, and BN statistics in the range of trained ones."""
    torch.manual_seed(0)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias, std=0.1)
    return model


def prune(model: nn.Module, images: torch.Tensor) -> Pruned:
    """Prune for the highest target in reach."""
    for target in TARGETS:
        try:
            return daar.prune(model, images, method="l1", macs_reduction=target)
        except InputError as error:
            if "cannot be reached" not in str(error) or target == TARGETS[-1]:
                raise
    raise AssertionError


def row(name: str) -> str:
    """One row of the table."""
    model = build(name)
    images = torch.randn(IMAGES, 3, *(2 * [299 if name == "inception_v3" else 224]))
    start = time.perf_counter()
    try:
        pruned = prune(model, images)
    except InputError as error:
        return f"| {name} | | 0 | 0 | | all | {short(str(error))} | |"
    seconds = time.perf_counter() - start
    report = pruned.report
    filters = {layer.name: layer.filters_dense for layer in report.layers}
    logits = Counter(reason == "network output" for reason in report.frozen.values())
    stay = {group: filters[group] for group, reason in report.frozen.items() if reason != "network output"}
    stay |= {group: filters[group] for group, reason in report.fixed.items() if "go only together" in reason}
    why = sorted({short({**report.frozen, **report.fixed}[group]) for group in stay})
    why = [*why[:2], f"and {len(why) - 2} more of that kind"] if len(why) > 3 else why
    notes = "; ".join([*why, *(["the last conv makes the logits"] if logits[True] else [])])
    return (
        f"| {name} | {report.macs_dense / 1e6:,.1f} M | {100 * report.macs_reduction:.1f} % | "
        f"{100 * report.params_reduction:.1f} % | {report.slim_error:.1e} | {sum(stay.values()) or ''} | {notes} | "
        f"{seconds:.1f} |"
    )


def short(reason: str) -> str:
    """A reason without its general beginning and without paths of torchvision."""
    return reason.removeprefix("no group of this network may be pruned: ").split(' (File "')[0]


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    names = [n for n in torchvision.models.list_models(module=torchvision.models) if not n.startswith(("vit", "swin"))]
    print(HEAD, flush=True)
    for name in names:
        if len(sys.argv) == 1 or name.startswith(tuple(sys.argv[1:])):
            print(row(name), flush=True)
            gc.collect()


if __name__ == "__main__":
    main()
