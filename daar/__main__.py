"""`python -m daar` is the command `daar`."""

import os

from daar.cli import signals


def main() -> None:
    """Run the command line; imports come after the handlers of signals, since they take seconds."""
    signals.handle()
    # processes that Python starts by itself, for workers, must not import from the working directory either
    os.environ.setdefault("PYTHONSAFEPATH", "daar")
    with signals.unwinding():
        from daar.cli.main import main as run

        run()


if __name__ == "__main__":
    main()
