"""Write a folder to start from: a suite, a method and a policy to change, and how to run them."""

import shutil
import tempfile
from pathlib import Path

from daar.errors import InputError
from daar.storage.bundled import BASELINES, ROOT

STARTER = ROOT / "workflow" / "starter"
# below the folder: what is copied there
TEMPLATES = {Path("methods/my_method"): BASELINES / "_template", Path("methods/my_policy"): BASELINES / "_policy"}


def write(folder: Path) -> list[Path]:
    """Write suite.yaml, README.md, and the templates of methods and policies.

    Args:
        folder: absent or empty.

    Returns:
        The files, relative to the folder.

    Raises:
        InputError: there is something, or it cannot be written; then nothing is left there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} should be a new or empty folder, but holds something. Choose another.")
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # staged within it: moving from there cannot half fail
        with tempfile.TemporaryDirectory(prefix=".daar-init-", dir=folder) as staged:
            _fill(Path(staged))
            written = sorted(path.relative_to(staged) for path in Path(staged).rglob("*") if path.is_file())
            for part in sorted(Path(staged).iterdir()):
                part.rename(folder / part.name)
    except OSError as error:
        if is_new and folder.is_dir():
            folder.rmdir()
        raise InputError(f"{folder} cannot be written: {error.strerror}. Choose another folder.") from error
    return written


def _fill(staged: Path) -> None:
    """Contents only: an installation's files may be read-only, and a start must not be."""
    for place, template in {Path(): STARTER, **TEMPLATES}.items():
        (staged / place).mkdir(parents=True, exist_ok=True)
        for source in sorted(path for path in template.iterdir() if path.is_file()):
            shutil.copyfile(source, staged / place / source.name)
