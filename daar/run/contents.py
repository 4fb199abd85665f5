"""What packed datasets hold, as a param of the rules that read them: neither their dates count nor their absence.

Imported while the DAG is built: no torch.
"""

import contextlib
from pathlib import Path
from typing import Any

from daar.errors import InputError
from daar.storage import documents, files


class Contents:
    """SHA-256 of files, remembered while size and date stay, and when the file is gone.

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

        Snakemake asks for params again before it runs a job, when all its inputs are there.
        """
        known = self._known.get(path)
        try:
            stat = Path(path).stat()
        except OSError:
            return "" if known is None else str(known[2])
        if known is None or known[:2] != [stat.st_size, stat.st_mtime_ns]:
            self._known[path] = [stat.st_size, stat.st_mtime_ns, files.sha256(Path(path))]
            with contextlib.suppress(InputError):  # a read-only folder; nothing is remembered there
                files.write_json(self._memory, self._known)
        return str(self._known[path][2])


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and [type(part) for part in entry] == [int, int, str]
