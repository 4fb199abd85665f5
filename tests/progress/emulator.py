"""A terminal for tests: pyte at the other end of a pseudo-terminal."""

import fcntl
import os
import pty
import struct
import termios
from typing import TextIO

import pyte


class Emulator:
    """A terminal of some size, and the stream to it."""

    def __init__(self, columns: int = 40, lines: int = 10) -> None:
        self._master, slave = pty.openpty()
        self.file: TextIO = os.fdopen(slave, "w", encoding="utf-8")
        self.written = b""
        self.resize(columns, lines)

    def resize(self, columns: int, lines: int = 10) -> None:
        """As by its user. It wraps its lines again, as most do: all that was written is read by one of the new size."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._stream.feed(self.written)

    @property
    def shows(self) -> list[str]:
        """Its lines now, but for empty ones at the end."""
        os.set_blocking(self._master, False)
        while True:
            try:
                read = os.read(self._master, 65536)
            except BlockingIOError:
                break
            self.written += read
            self._stream.feed(read)
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip().splitlines()

    def close(self) -> None:
        self.file.close()
        os.close(self._master)
