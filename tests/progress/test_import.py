"""What plain Snakemake imports at every start, of whatever checkout its Snakefile is."""

import subprocess
import sys


def test_the_plugin_imports_nothing_of_daar() -> None:
    code = "import sys, snakemake_logger_plugin_daar as p; print(p.LogHandler.__name__, 'daar' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "LogHandler False\n"
