"""`python -m daar` is the command `daar`."""

from daar.cli import signals


def main() -> None:
    """Run the command line; imports come after the handlers of signals, since they take seconds."""
    signals.handle()
    with signals.unwinding():
        from daar.cli.main import main as run

        run()


if __name__ == "__main__":
    main()
