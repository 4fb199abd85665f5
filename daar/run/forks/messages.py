"""What client and server tell each other: over a Unix socket, each message a length and JSON.

Imported by every job before anything else: next to nothing is imported here.
"""

import json
import os
import socket
import struct
import sys
from typing import Any

# the name of the server's socket, for jobs; and what the server itself is told: two file descriptors
VARIABLE, SERVES = "DAAR_FORK_SERVER", "DAAR_FORK_SERVER_FDS"
_LENGTH = struct.Struct("!I")
_CREDENTIALS = struct.Struct("3i")


def send(connection: socket.socket, content: Any, descriptors: tuple[int, ...] = ()) -> None:
    """Send a message, with file descriptors that the other side gets copies of."""
    text = json.dumps(content).encode()
    socket.send_fds(connection, [_LENGTH.pack(len(text))], descriptors)
    connection.sendall(text)


def receive(connection: socket.socket, descriptors: int = 0) -> tuple[Any, list[int]]:
    """A message, with as many file descriptors; None if the other side is gone."""
    head, got, *_ = socket.recv_fds(connection, _LENGTH.size, descriptors)
    rest = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
    text = bytearray()
    while len(text) < rest:
        if not (part := connection.recv(rest - len(text))):
            return None, got
        text += part
    return (json.loads(text) if text else None), got


def is_own(connection: socket.socket) -> bool:
    """Whether the other side is a process of the same user: such a socket has no file with permissions."""
    got = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(got)[1] == os.getuid())


def program() -> list[Any]:
    """What runs here: a job is handed over only where the server runs the same."""
    return [
        sys.executable,
        sys.version,
        __file__,
        sys.flags.safe_path,
        sys.flags.optimize,
        os.environ.get("PYTHONPATH"),
    ]
