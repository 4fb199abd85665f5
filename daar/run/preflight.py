"""Before a suite runs: are the data there, is there a device for it, and how long would it take?

Answers within seconds and without torch, so that a run that cannot succeed stops before it starts.
"""

import platform
from pathlib import Path

from daar.data import datasets, pack_files, sources
from daar.device import gpu
from daar.errors import InputError
from daar.suite import work
from daar.suite.definition import Suite


def hours(suite: Suite) -> float:
    """Rough hours of training on this machine, one device."""
    rate = work.throughput(gpu=_has_gpu(), cores=gpu.count_cores())
    return work.training_flops(suite) / rate / 3600


def problems(suite: Suite, packs: Path, *, elsewhere: bool = False) -> list[str]:
    """Why the suite cannot run here, a clause each; empty if it can.

    Args:
        suite: the experiment.
        packs: folder of the packed datasets.
        elsewhere: whether its jobs run on other machines, whose devices are unknown here.
    """
    reasons = []
    root = Path(suite.data_root) if suite.data_root else None
    for name in suite.datasets:
        dataset = datasets.get(name)
        if name in suite.own_data:  # looked at when the suite was read
            continue
        if pack_files.split_file(packs / name, "test").exists() or sources.locate(dataset, root) is not None:
            continue
        if "torchvision" in dataset.sources and sources.reachable():
            continue
        reasons.append(str(sources.not_found(dataset, root)).rstrip(".") + " (nor can it be downloaded: no network)")
    reasons += [problem for network in suite.base if (problem := _absent_weights(suite, network, root))]
    if not suite.allow_cpu and not elsewhere and not _has_gpu():
        reasons.append("no GPU: looked for NVIDIA's driver and CUDA_VISIBLE_DEVICES")
    return reasons


def require_runnable(suite: Suite, packs: Path, *, elsewhere: bool = False) -> None:
    """Stop a run that cannot succeed; arguments as for `problems`.

    Raises:
        InputError: says what is missing, where it was looked for, how long it would take here, and what to run instead.
    """
    reasons = problems(suite, packs, elsewhere=elsewhere)
    if reasons:
        where = f"{gpu.count_cores()} CPU cores" if not _has_gpu() else "one GPU"
        on_cpu = "" if suite.allow_cpu else "add --config allow_cpu=true to "
        raise InputError(
            f"suite {suite.name!r} cannot run here: {'; '.join(reasons)}. On {where} it would take roughly "
            f"{readable(hours(suite))} of training. Run `daar run demo` for a small suite, or {on_cpu}run this one "
            f"{'' if suite.allow_cpu else 'on the CPU '}once its data are there."
        )


def _absent_weights(suite: Suite, network: str, root: Path | None) -> str | None:
    """That a network's published weights are not there, where they were looked for and can be had."""
    base = suite.base[network]
    if Path(suite.weights(network)).is_file():
        return None
    remedy = f"fetch them from {base.url}" if base.url else "put them there"
    where = f"{base.file} and {sources.resolve_root(root) / base.file}"
    return f"no weights for {network}: looked for {where}; {remedy}"


def _has_gpu() -> bool:
    return gpu.count_gpus() > 0 or (platform.system() == "Darwin" and platform.machine() == "arm64")


def readable(value: float) -> str:
    """Hours in words, rounded as such a rough figure deserves."""
    if value < 1:
        return f"{max(1, round(60 * value))} minutes"
    return f"{value:.0f} hours" if value < 72 else f"{value:,.0f} hours ({value / 24:.0f} days)"
