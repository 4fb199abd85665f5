"""`python -m daar` is the command `daar`."""

import os
import sys

from daar.cli import signals
from daar.run.forks import client, messages


def main() -> None:
    """Run the command line, here or in a fork of the loaded process of this job's run; or be that process."""
    if messages.SERVES in os.environ:
        from daar.run.forks.server import serve

        serve(_run)
        return
    signals.handle()
    code = client.hand_over(sys.argv[1:])
    if code is None:
        _run()
    else:
        client.end_like(code)


def _run() -> None:
    """Run it here; imports come after the handlers of signals, since they take seconds."""
    signals.handle()
    # processes that Python starts by itself, for workers, must not import from the working directory either
    os.environ.setdefault("PYTHONSAFEPATH", "daar")
    with signals.unwinding():
        from daar.cli.main import main as run

        run()


if __name__ == "__main__":
    main()
