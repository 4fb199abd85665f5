"""What packed datasets hold, as a param of the rules that read them: neither their dates count nor their absence.

Imported while the DAG is built: no torch.
"""

import contextlib
import stat
from pathlib import Path
from typing import Any

from daar.errors import InputError
from daar.storage import documents, files


class Contents:
    """SHA-256 of files, remembered while size and dates stay, and when the file is gone.

    Both dates count, that of the content and that of the inode (ctime), which nobody can set: packs of one dataset are
    often of one size, and archives and images of containers give all files one date.

    Args:
        memory: the file that remembers, JSON; a damaged one counts as empty.
    """

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._known: dict[str, list[str | int]] = {}
        with contextlib.suppress(InputError):
            known = documents.read_json(memory, "what daar remembers of files")
            if isinstance(known, dict):
                self._known = {path: entry for path, entry in known.items() if _is_entry(entry)}

    def of(self, path: str) -> str:
        """The SHA-256 of a file, 64 hexadecimal digits; of one that is gone, the last that was known, or nothing.

        What is no file, or cannot be read, is told by the job that needs it. Snakemake asks for params again before it
        runs a job, when all its inputs are there.
        """
        with contextlib.suppress(OSError):
            about = Path(path).stat()
            dates = [about.st_size, about.st_mtime_ns, about.st_ctime_ns]
            # to read a pipe could take for ever
            if stat.S_ISREG(about.st_mode) and self._known.get(path, [])[:3] != dates:
                self._known[path] = [*dates, files.sha256(Path(path))]
                with contextlib.suppress(InputError):  # a read-only folder; nothing is remembered there
                    files.write_json(self._memory, self._known)
        return str(self._known[path][3]) if path in self._known else ""


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and [type(part) for part in entry] == [int, int, int, str]
