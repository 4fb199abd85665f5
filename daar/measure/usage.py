"""What this process has used since it began: seconds, CPU seconds, memory.

Each job says it itself: one that is a fork of a loaded process is no child of the shell that Snakemake watches, and a
short one ends between two of its looks.
"""

import resource
import sys
import time
from datetime import timedelta
from pathlib import Path

from daar.device import distributed
from daar.storage import files

RESULT_NEUTRAL = "measures cost, which no result depends on"

# of ru_maxrss: KiB, on macOS bytes
_UNITS_PER_MIB = 1024**2 if sys.platform == "darwin" else 1024


def write(path: Path) -> None:
    """Write what this process has used, with processes that it started, as a benchmark file of Snakemake's has it.

    Columns: `s` (seconds since it began), `h:m:s`, `max_rss` (MiB at most at one time), `mean_load` (percent of a core)
    and `cpu_time` (seconds). Of several processes under torchrun CPU time and memory are sums, written by rank 0.
    """
    import psutil  # type: ignore[import-untyped]  # Snakemake has it, without types

    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = max(time.time() - psutil.Process().create_time(), 0.0)
    cpu = own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime
    memory = max(own.ru_maxrss, others.ru_maxrss) / _UNITS_PER_MIB
    if distributed.processes() > 1:
        import torch

        cpu, memory = distributed.all_reduce_sum(torch.tensor([cpu, memory], dtype=torch.float64)).tolist()
    if not distributed.is_first():
        return
    load = 100 * cpu / seconds if seconds else 0.0
    row = {
        "s": f"{seconds:.4f}",
        "h:m:s": str(timedelta(seconds=int(seconds))),
        "max_rss": f"{memory:.2f}",
        "mean_load": f"{load:.2f}",
        "cpu_time": f"{cpu:.2f}",
    }
    with files.atomic(path) as temporary:
        temporary.write_text("\t".join(row) + "\n" + "\t".join(row.values()) + "\n", encoding="utf-8")
