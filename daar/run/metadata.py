"""Keep what Snakemake knows of each result with the results, so that a copy of them is known as well.

Imported while the DAG is built: no torch.
"""

import contextlib
import os
import shutil
from pathlib import Path


def keep_with_results(snakemake: Path, kept: Path) -> None:
    """Have Snakemake's metadata (how each file was made, from what content) in the folder of the results.

    Args:
        snakemake: `.snakemake` of the working directory; its folder `metadata` becomes a link.
        kept: the folder, among the results, that is to have it.
    """
    link = snakemake / "metadata"
    if link.is_symlink():
        kept.mkdir(parents=True, exist_ok=True)
        return
    with contextlib.suppress(OSError):  # nothing can be written here; then nothing will be run here, either
        snakemake.mkdir(parents=True, exist_ok=True)
        kept.mkdir(parents=True, exist_ok=True)
        if link.is_dir():  # of a version that kept it there
            shutil.copytree(link, kept, dirs_exist_ok=True)
            shutil.rmtree(link)
        # without it Snakemake would take the metadata for that of an early version of its own
        (snakemake / "incomplete").mkdir(exist_ok=True)
        link.symlink_to(os.path.relpath(kept, snakemake), target_is_directory=True)


def leave_nothing(kept: Path) -> None:
    """Remove the folder where nothing was run: one that was refused leaves no results.

    Args:
        kept: as for `keep_with_results`.
    """
    with contextlib.suppress(OSError):  # there is something in it
        kept.rmdir()
        kept.parent.rmdir()
