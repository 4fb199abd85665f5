"""Speed compared with reference loops in the same run: `python -m benchmarks --help`.

To add a benchmark, add a `Benchmark` to the list of a module here, or a module to `catalogue`.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import output, pruning, reports, scores, slim_networks, startup, training
from benchmarks.harness import Benchmark, Options, measure
from benchmarks.quiet import Quiet
from daar.errors import InputError, unknown
from daar.storage import provenance


def catalogue() -> dict[str, Benchmark]:
    """Every benchmark by name, in the order in which they run."""
    modules = (training, startup, reports, pruning, slim_networks, scores)
    listed = [benchmark for module in modules for benchmark in module.benchmarks()]
    by_name: dict[str, Benchmark] = {}
    for benchmark in listed:
        assert benchmark.name not in by_name, benchmark.name
        by_name[benchmark.name] = benchmark
    return by_name


def run(
    out: Path,
    windows: int,
    only: Sequence[str] | None,
    options: Options,
    *,
    patience: float = 0,
    as_json: bool = False,
) -> str:
    """Run benchmarks, write bench.json, bench.md and bench.png, and return the Markdown or the JSON.

    Args:
        out: folder of the files.
        windows: timed windows of each side.
        only: names of the benchmarks to run; None for all.
        options: device, and the work of a window.
        patience: seconds to wait in all until other programs are idle.
        as_json: return the JSON.

    Raises:
        InputError: a name is unknown, or there is no window or step to time.
    """
    chosen = select(catalogue(), only)
    for name, count in (("--windows", windows), ("--steps", options.steps)):
        if count < 1:
            raise InputError(f"{name} is {count}; it must be 1 or more.")
    made, quiet, results = _circumstances(windows, options, patience), Quiet(patience), []
    for index, benchmark in enumerate(chosen, 1):
        print(f"[{index}/{len(chosen)}] {benchmark.name}: ", end="", file=sys.stderr, flush=True)
        results.append(measure(benchmark, options, windows, quiet=quiet))
        print(output.line(results[-1]), file=sys.stderr, flush=True)
    if "load_before" in made:
        made["load_after"] = os.getloadavg()[0]
    output.write(out, made, results)
    if as_json:
        return json.dumps(output.to_json(made, results), indent=2)
    return output.markdown(made, results).rstrip("\n")


def select(known: dict[str, Benchmark], only: Sequence[str] | None) -> list[Benchmark]:
    """The named benchmarks, in the order of the catalogue; InputError for an unknown name lists them all."""
    hint = "Name some of them after --only, or leave it out for all."
    for name in only or ():
        if name not in known:
            raise unknown("benchmark", name, list(known), hint)
    return [benchmark for name, benchmark in known.items() if only is None or name in only]


def _circumstances(windows: int, options: Options, patience: float) -> dict[str, Any]:
    """Date, settings and environment of a run; the load average shows whether other programs ran."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "windows": windows,
        "patience": patience,
        **asdict(options),
        "device": options.device.type,
        "environment": provenance.environment(),
        **({"load_before": os.getloadavg()[0]} if hasattr(os, "getloadavg") else {}),
    }
