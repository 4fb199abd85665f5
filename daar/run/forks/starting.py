"""Start the loaded process of a run. Imported while the DAG is built: no torch."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Sequence

from daar.run.forks import messages

# libraries read them when they are loaded; a job says itself how many threads it has
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
# the server, and the end of a pipe whose other end it has: it ends when this process does, however that ends
_held: list[tuple[subprocess.Popen[bytes], int]] = []


def start(program: Sequence[str] = (sys.executable, "-P", "-m", "daar")) -> None:
    """Start it for the jobs that this process starts from now on; it loads at the first job that needs it.

    Args:
        program: that calls `server.serve`.
    """
    if sys.platform != "linux" or not hasattr(os, "pidfd_open") or _held:
        return
    name = f"daar-{secrets.token_hex(16)}"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        os.close(os.pidfd_open(os.getpid()))  # an old kernel has none
        listener.bind(f"\0{name}")  # abstract: no file that a killed run would leave
        listener.listen(128)
        theirs, ours = os.pipe()
        try:
            server = subprocess.Popen(
                program,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **_ONE_THREAD, messages.SERVES: f"{listener.fileno()},{theirs}"},
                pass_fds=[listener.fileno(), theirs],
            )
        finally:
            os.close(theirs)
        _held.append((server, ours))
        os.environ[messages.VARIABLE] = name
