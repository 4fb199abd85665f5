"""docs/tutorial.ipynb: its cells run one after the other, and what it shows was shown by them."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"


def cells() -> list[dict[str, Any]]:
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def shown(cell: dict[str, Any]) -> str:
    texts = [out.get("text") or out["data"]["text/plain"] for out in cell["outputs"]]
    return "\n".join("".join(text).rstrip("\n") for text in texts)


def test_every_cell_was_run_in_order() -> None:
    assert [cell["execution_count"] for cell in cells()] == list(range(1, len(cells()) + 1))
    assert sum(bool(cell["outputs"]) for cell in cells()) > 5
    for cell in cells():
        ast.parse(source(cell))


@pytest.mark.slow
def test_the_notebook_runs_and_prunes_what_it_shows(tmp_path: Path) -> None:
    # the last expression of a cell is what a notebook shows
    lines = []
    for cell in cells():
        *body, last = ast.parse(source(cell)).body
        text = ast.unparse(last)
        lines += [*map(ast.unparse, body), f"print({text})" if isinstance(last, ast.Expr) else text]
    (tmp_path / "notebook.py").write_text("\n".join(lines), encoding="utf-8")
    command = [sys.executable, "notebook.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = next(shown(cell) for cell in cells() if "print(pruned.report)" in source(cell))
    widths = [line.split("  ")[0] for line in report.splitlines() if " → " in line]
    assert widths[1:-2]
    assert all(name in done.stdout for name in widths[1:-2])
    [tuned] = [line for line in done.stdout.splitlines() if line.startswith("dense ")]
    dense, _, slim = (float(part.split()[1]) for part in tuned.split(", "))
    assert dense > 90
    assert slim > 90
