"""The stages: each reads files and writes files, and is a subcommand of `daar`. The workflow's rules only call these."""
