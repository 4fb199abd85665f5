"""No command imports what lies in the working directory, and neither do the processes that Python starts for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# the command `daar`, doing nothing but what decoding does first: start a worker
COMMAND = """
import multiprocessing
import daar.__main__, daar.cli.main

def start_worker():
    worker = multiprocessing.get_context("forkserver").Process(target=print)
    worker.start()
    worker.join()

daar.cli.main.main = start_worker
daar.__main__.main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no forkserver")
@pytest.mark.parametrize("given", [None, ""])
def test_workers_import_nothing_from_the_working_directory(given: str | None, tmp_path: Path) -> None:
    here, script = tmp_path / "here", tmp_path / "bin" / "daar"
    for folder in (here, script.parent):
        folder.mkdir()
    script.write_text(COMMAND)
    for name in ("multiprocessing", "torch", "yaml", "numpy", "socket", "pickle"):
        (here / f"{name}.py").write_text(f"open({str(tmp_path / 'RAN')!r}, 'a').write({name!r})\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment |= {} if given is None else {"PYTHONSAFEPATH": given}
    command = [sys.executable, str(script)]  # as the installed command is started
    subprocess.run(command, cwd=here, env=environment, capture_output=True, timeout=300, check=False)
    # what the user has set counts: Python takes an empty value for none, and looks there
    assert (tmp_path / "RAN").exists() == (given == "")
