"""Write to where the user looks: lines that stay, and, on a terminal, a foot below them that changes.

Jobs print as well, each into its own log and to the streams of Snakemake's process. `Streams` sends the latter to a
file, so that what the user sees is only what is written here.
"""

import atexit
import contextlib
import io
import math
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.text import Text


class Terminal:
    """A terminal, or a pipe or file in its place.

    Args:
        file: it, with its `fileno()`. What it can follows from TERM, NO_COLOR, CI and the locale's variables.
        colours: whether colours are wanted, if it has them.

    Attributes:
        live: whether it has a foot: a terminal that can move its cursor.
        ascii_only: whether its locale has no other characters.
    """

    def __init__(self, file: TextIO, *, colours: bool = True) -> None:
        self._file, self._lock = file, threading.RLock()
        self._console = Console(file=file, no_color=None if colours else True, soft_wrap=True)
        self.live = file.isatty() and not self._console.is_dumb_terminal and not os.environ.get("CI")
        self.ascii_only = is_ascii(os.environ)
        # columns of each line of the foot, and what was written
        self._columns: list[int] = []
        self._foot = ""

    @property
    def size(self) -> tuple[int, int]:
        """Its columns and lines now."""
        with contextlib.suppress(OSError):
            columns, lines = os.get_terminal_size(self._file.fileno())
            if columns and lines:  # some pseudo-terminals have none
                return columns, lines
        return 80, 24

    def say(self, text: Text) -> None:
        """Write a line that stays, above the foot."""
        with self._lock:
            self._write(f"{self._away()}{self._rendered(text)}\n{self._foot}")

    def show(self, foot: Sequence[Text]) -> None:
        """Have another foot; none for an empty one."""
        with self._lock:
            away = self._away()
            columns, foot_now = [line.cell_len for line in foot], "\n".join(map(self._rendered, foot))
            if foot_now != self._foot:
                self._columns, self._foot = columns, foot_now
                self._write(away + foot_now)

    def pass_on(self, text: str) -> None:
        """Write what another part of this process has to say, as it is, above the foot."""
        self.say(Text.from_ansi(text.removesuffix("\n")))

    def _away(self) -> str:
        """What removes the foot: up to its first line, and clear. A terminal that became narrower has wrapped lines."""
        if not self._columns:
            return ""
        columns, _ = self.size
        up = sum(max(1, math.ceil(line / columns)) for line in self._columns) - 1
        return "\r" + (f"\x1b[{up}A" if up else "") + "\x1b[J"

    def _rendered(self, text: Text) -> str:
        with self._console.capture() as capture:
            self._console.print(text, end="", soft_wrap=True)
        return capture.get()

    def _write(self, text: str) -> None:
        data = text.encode("ascii" if self.ascii_only else self._file.encoding, "backslashreplace")
        with contextlib.suppress(OSError):  # the terminal was closed, or the reader of the pipe; the run goes on
            while data:  # at once, and nothing is kept that could not be written
                data = data[os.write(self._file.fileno(), data) :]


class Streams:
    """What jobs print goes to a file, and what this process prints to a terminal, above its foot."""

    def __init__(self) -> None:
        self._descriptors = {number: os.dup(number) for number in (1, 2)}
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        # by a copy of its descriptor: the number 2 is what jobs inherit
        self.stderr = os.fdopen(os.dup(2), "w", encoding=encoding)
        self._own = sys.stdout, sys.stderr

    def redirect(self, file: Path, terminal: Terminal) -> None:
        """Begin.

        Args:
            file: gets what jobs print.
            terminal: on `stderr`.
        """
        for stream in self._own:
            stream.flush()
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for number in self._descriptors:
            os.dup2(descriptor, number)
        os.close(descriptor)
        above = Above(terminal, self.stderr.fileno())
        sys.stdout, sys.stderr = above, above
        atexit.register(self.restore)

    def restore(self) -> None:
        """Put all back."""
        sys.stdout, sys.stderr = self._own
        for number, descriptor in self._descriptors.items():
            os.dup2(descriptor, number)


class Above(io.TextIOBase):
    """A stream whose lines are written above the foot of a terminal."""

    def __init__(self, terminal: Terminal, descriptor: int) -> None:
        self._terminal, self._descriptor, self._line = terminal, descriptor, ""

    def write(self, text: str) -> int:
        """Write it once its line has ended."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._terminal.pass_on(line)
        return len(text)

    def flush(self) -> None:
        """Write also a line that has not ended."""
        if self._line:
            self._terminal.pass_on(self._line)
            self._line = ""

    def fileno(self) -> int:
        """The terminal's own descriptor, for what must be written at once."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Yes."""
        return True


def is_ascii(environment: Mapping[str, str]) -> bool:
    """Whether a locale has ASCII alone.

    Python itself sets LC_CTYPE to C.UTF-8 for what it starts in the locale C; that says nothing of the terminal.
    """
    own = environment.get("LC_CTYPE", "")
    asked = environment.get("LC_ALL") or ("" if own == "C.UTF-8" else own) or environment.get("LANG", "")
    return "utf" not in asked.lower()
