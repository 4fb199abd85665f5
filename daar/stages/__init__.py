"""The stages: each reads and writes files and is a subcommand of `daar`, which is all that the workflow calls."""
