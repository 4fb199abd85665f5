"""The files of settings, next to a results.csv in their own folders: plans, records, importances."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from daar.report.fairness import own_ratios
from daar.suite.definition import setting_path


class SettingFiles(NamedTuple):
    """A setting of results.csv and its folder.

    Attributes:
        dataset: by name.
        network: by name.
        seed: of the setting.
        variant: in the suite.
        policy: by name.
        target: fraction of MACs to be removed; None for ratios of its own, which no target makes comparable.
        folder: of the setting.
    """

    dataset: str
    network: str
    seed: int
    variant: str
    policy: str
    target: float | None
    folder: Path

    @property
    def importance(self) -> Path:
        """The importance.safetensors of its variant."""
        return self.folder.parent / "importance.safetensors"


def setting_files(results: Path, frame: pd.DataFrame) -> Iterator[SettingFiles]:
    """Where the settings of some rows have their files.

    Args:
        results: the results.csv.
        frame: rows of it.
    """
    keys = ["dataset", "network", "seed", "variant", "policy", "scope", "target"]
    for setting, own in zip(frame[keys].itertuples(index=False), own_ratios(frame), strict=True):
        dataset, network, seed, variant, policy, scope, asked = setting
        target = None if pd.isna(asked) else float(asked)
        folder = Path(results).parent / setting_path(dataset, network, seed, variant, policy, scope, target)
        yield SettingFiles(dataset, network, seed, variant, policy, None if own else target, folder)


def read_each(
    results: Path,
    frame: pd.DataFrame,
    name: str,
    read: Callable[[Path], list[Mapping[str, Any]]],
    columns: tuple[str, ...],
) -> pd.DataFrame:
    """Read one file of every setting into one table.

    Networks from scratch are left out: they have no plan of their own, but another variant's, and another recipe.

    Args:
        results: the results.csv.
        frame: rows of it.
        name: of the file, in a setting's folder.
        read: gives the rows of one file, with the keys `columns`.
        columns: of the file.

    Returns:
        dataset, network, seed, variant, policy, target (NaN for ratios of its own), then `columns`.
    """
    front = [field for field in SettingFiles._fields if field != "folder"]
    values: dict[str, list[Any]] = {name: [] for name in (*front, *columns)}
    for setting in setting_files(results, frame[frame["method"] != "scratch_of"]):
        rows = read(setting.folder / name)
        for field in front:
            values[field] += [getattr(setting, field)] * len(rows)
        for column in columns:
            values[column] += [row[column] for row in rows]
    return pd.DataFrame(values).astype({"target": "float64"})
