"""`python -m daar` is the command `daar`."""

from daar.cli import main

main()
