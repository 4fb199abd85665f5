"""`python -m daar` is the command `daar`."""

from daar.cli.main import main

main()
