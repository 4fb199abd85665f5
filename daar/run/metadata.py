"""Keep what Snakemake knows of each result with the results, so that a copy of them is known as well.

Such a copy may be a stranger's, or of a disk that lost power: what is no record of Snakemake's counts as absent.

Imported while the DAG is built: no torch.
"""

import contextlib
import functools
import os
import shutil
from pathlib import Path
from typing import Any

from daar.errors import InputError
from daar.storage import documents


def keep_with_results(snakemake: Path, kept: Path) -> None:
    """Have Snakemake's metadata (how each file was made, from what content) in the folder of the results.

    Args:
        snakemake: `.snakemake` of the working directory; its folder `metadata` becomes a link.
        kept: the folder, among the results, that is to have it.

    Raises:
        InputError: a file is where that folder should be.
    """
    if os.path.lexists(kept) and not kept.is_dir():
        raise InputError(f"{kept} should be a folder, but is not. Remove it.")
    link, target = snakemake / "metadata", os.path.relpath(kept, snakemake)
    if link.is_symlink() and os.readlink(link) == target:  # noqa: PTH115  # compared as text
        kept.mkdir(parents=True, exist_ok=True)
        return
    with contextlib.suppress(OSError):  # nothing can be written here; then nothing will be run here, either
        snakemake.mkdir(parents=True, exist_ok=True)
        kept.mkdir(parents=True, exist_ok=True)
        if link.is_symlink():  # to another folder, as in a copy
            link.unlink()
        elif link.is_dir():  # of a version that kept it there
            shutil.copytree(link, kept, dirs_exist_ok=True)
            shutil.rmtree(link)
        # without it Snakemake would take the metadata for that of an early version of its own
        (snakemake / "incomplete").mkdir(exist_ok=True)
        link.symlink_to(target, target_is_directory=True)


def ignore_damaged(persistence: type[Any]) -> None:
    """Have Snakemake take what is no record of a result for an absent one; of itself it ends with a traceback.

    Args:
        persistence: its class that reads records from files, changed once.
    """
    original = persistence._io_read
    if hasattr(original, "ignores_damaged"):
        return

    @functools.wraps(original)
    def read(self: Any, subject: str, id: str) -> Any:
        path = Path(self._record_path(subject, id))
        if not os.path.lexists(path):
            return {}
        try:
            content = documents.read_json(path, "a record of Snakemake's")
        except InputError:
            return {}
        return content if _is_record(content) else {}

    read.ignores_damaged = True  # type: ignore[attr-defined]
    persistence._io_read = read


# key of a record → the types that it may have
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("record_format_version", "job_hash"), (int,)),
    **dict.fromkeys(("starttime", "endtime"), (int, float)),
    **dict.fromkeys(("input", "log", "params"), (list,)),
    "input_checksums": (dict,),
    "incomplete": (bool,),
}


def _is_record(content: Any) -> bool:
    """Whether it has what Snakemake's records have, each of its type; texts where nothing else is said."""
    if not isinstance(content, dict):
        return False
    for key, value in content.items():
        if value is not None and not isinstance(value, _KINDS.get(key, (str,))):
            return False
        parts = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
        if not all(isinstance(part, str) for part in parts):
            return False
    return content.get("record_format_version", 0) is not None


def leave_nothing(kept: Path) -> None:
    """Remove the folder, and that of the results, where nothing was run.

    Args:
        kept: as for `keep_with_results`.
    """
    with contextlib.suppress(OSError):  # there is something in it
        kept.rmdir()
        kept.parent.rmdir()
