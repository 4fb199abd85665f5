"""What every method and policy has to hold, as checks that say how to pass: tests/conformance, `daar method check`."""
