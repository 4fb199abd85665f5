"""What a run of a suite shows while it is at work: `daar run` and `snakemake --logger daar`.

`snakemake_logger_plugin_daar` gets the records of Snakemake's log, `state` follows them, `logs` reads how far trainings
are, `left` estimates the rest, `screen` makes lines of it, and `terminal` writes those. Only the plugin looks at the
clock.
"""
