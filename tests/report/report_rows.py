"""Rows of results.csv made by hand, for the tests of the report: three methods over three seeds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from daar.report.collect import COLUMNS, OF_SUITE
from daar.report.context import Context
from daar.suite.names import Names

BLANK = {"string": "x", "bool": False, "boolean": False, "int64": 1, "Int64": 1, "float64": 1.0}
COMMON = {name: BLANK[dtype] for name, dtype in COLUMNS.items()} | {
    **{"suite": "paper", "dataset": "cifar10", "network": "resnet56", "policy": "uniform", "scope": "all"},
    **{"target": 0.5, "recipe": "0123456789ab", "epochs": 150, "calibration_images": 640, "options": "{}"},
    **{"schedule": "one-shot", "schedule_options": "{}"},
    **{"train_recipe": "0123456789ab", "versions": "{}", "slim_error_dtype": "float64", "slim_error_max_relative": 0.0},
    **{
        "macs_dense": 125_485_696,
        "macs_slim": 62_742_848,
        "macs_dense_thop": 126_000_000,
        "macs_slim_thop": 63_000_000,
    },
    **{"macs_reduction": 0.5, "params_dense": 853_018, "params_slim": 426_509, "params_reduction": 0.5},
    **{"top1_pruned": 10.0, "top1_recalibrated": 60.125, "top1_best_val": 93.0, "val_top1_tuned": 92.0},
    **{"hardware_cpu": "EPYC_7", "hardware_cores": 2, "hardware_gpu": pd.NA, "precision": "bf16"},
    **{name: float("nan") for name in COLUMNS if "top5" in name},  # as below 100 classes
    **{"of": pd.NA, "failed": pd.NA},
}
DENSE = (93.0, 93.2, 93.4)
TITLES = {"daar": "DAAR (reconstructed)", "l1": "L1", "random": "random (control)"}
_OTHERS = ("l1", "fpgm", "hrank", "random", "again", *(f"{letter}{k}" for letter in "vm" for k in range(40)))


def rows(variant: str, tuned: tuple[float, ...], **changes: Any) -> list[dict[str, Any]]:
    """One row per seed, of bases with the accuracies DENSE."""
    own = {"variant": variant, "method": variant, "control": variant == "random"}
    return [
        COMMON | own | {"seed": k, "base_sha256": f"{k}" * 64, "top1_dense": DENSE[k], "top1_tuned": top1} | changes
        for k, top1 in enumerate(tuned)
    ]


def named(titles: Mapping[str, str] = TITLES) -> Names:
    """Names of rows as a suite gives them: every method's own policy is uniform, DAAR's is adaptive."""
    return Names(titles, policies=dict.fromkeys((*_OTHERS, *titles), "uniform") | {"daar": "adaptive"})


NAMES = named()
CONTEXT = Context(names=NAMES)


def frame(*groups: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame([row for group in groups for row in group], columns=list(COLUMNS)).astype(COLUMNS)


L1 = rows("l1", (92.5, 92.9, 93.0))
DAAR = rows("daar", (93.3, 93.5, 93.4), policy="adaptive")
RANDOM = rows("random", (92.0, 92.0, 92.0))
SCRATCH = rows("scratch", (91.0, 91.0, 91.0), method="scratch_of", of="daar", control=True, recipe="f" * 12, epochs=200)


def csv(folder: Path, *groups: list[dict[str, Any]]) -> Path:
    path = folder / "results.csv"
    frame(*groups).to_csv(path, index=False)
    return path


def change(group: list[dict[str, Any]], seed: int | None = None, **changes: Any) -> list[dict[str, Any]]:
    return [row | changes if seed in (None, row["seed"]) else row for row in group]


def lost(row: dict[str, Any], reason: str = "the loss is nan") -> dict[str, Any]:
    """The row as a setting that failed has it."""
    return {name: row[name] for name in OF_SUITE} | {"failed": reason}
