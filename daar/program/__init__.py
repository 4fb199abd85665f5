"""The operations that a network runs: recorded once, to be read, run again or changed."""
