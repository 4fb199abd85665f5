"""Read and write files so that a final name never holds half a file."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from daar.errors import InputError

RESULT_NEUTRAL = "says how files are written, not what is in them"

# errors of a disk that is full, or full for this user or process
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# a writer that takes longer than this is dead
_STALE_SECONDS = 3600


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`; on success flush the file to disk and rename it to `path`.

    The temporary name keeps the suffix, since some writers choose a format by it. On any exception the temporary file
    is removed and `path` is as before. Files that a killed process left are removed by a write at least an hour later.

    Raises:
        InputError: the file cannot be written (full disk, no permission), or there is something else than a file.
    """
    path = Path(path)
    require_replaceable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    except OSError as error:
        raise _unwritable(path, error.errno or 0, str(error)) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes files private; give them the mode that open() would have given
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
        _remove_stale(path)
    except Exception as error:
        if (code := _system_code(error)) is None:
            raise
        temporary.unlink(missing_ok=True)
        raise _unwritable(path, code, str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def require_replaceable(path: Path) -> None:
    """Refuse what a file would take the place of: a folder, a pipe, or a device such as /dev/null.

    Raises:
        InputError: there is something that is no regular file, nor a link to one or to nothing.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # nothing is there, or what writes says why it cannot
        return
    if not stat.S_ISREG(mode):
        what = "folder" if stat.S_ISDIR(mode) else "device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "pipe"
        raise InputError(f"cannot write {path}: it should be a file, but is a {what}. Choose another name.")


def require_place(path: Path, *, folder: bool) -> None:
    """Refuse at once what could not be written in the end, after an hour's work.

    Args:
        path: to be written.
        folder: whether it is a folder for files.

    Raises:
        InputError: what is there is of another kind, or the folder that it would lie in is none, or read-only.
    """
    if not folder:
        require_replaceable(path)
    places = [path, *path.parents] if folder else [path.parent, *path.parent.parents]
    there = next((place for place in places if os.path.lexists(place)), None)  # Path's raises for impossible names
    if there is None:
        return
    if not os.path.isdir(there):  # noqa: PTH112  # as above
        raise InputError(f"cannot write {path}: {there} should be a folder, but is none. Choose another output folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {path}: {there} may not be written to. Choose another output folder.")


def _system_code(error: Exception) -> int | None:
    """The errno of an OSError, or of an OSError inside safetensors' own (Rust) error; None of any other exception."""
    if isinstance(error, OSError):
        return error.errno or 0
    if isinstance(error, InputError):
        return None
    code = re.search(r"\(os error (\d+)\)", str(error))
    return int(code[1]) if code else None


def _unwritable(path: Path, code: int, said: str) -> InputError:
    reason = os.strerror(code) if code else said
    if code not in _FULL:
        return InputError(f"cannot write {path}: {reason}. Choose another output folder.")
    free = shutil.disk_usage(path.parent).free / 1e6
    return InputError(
        f"cannot write {path}: {reason}, {free:,.1f} MB are free there; what was there before is as it was. "
        "Free some space, or choose another folder, and run the same command again."
    )


def _remove_stale(path: Path) -> None:
    with contextlib.suppress(OSError):  # another process may remove it first
        for left in path.parent.glob(f".{glob.escape(path.stem)}.*{glob.escape(path.suffix)}"):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink()


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` as JSON, atomically; ValueError for NaN and infinities, which JSON does not have."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(content: Any) -> str:
    """A hash of JSON-like content, 12 hexadecimal digits, whatever the order of its keys."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
