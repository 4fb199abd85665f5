"""What a newcomer's set-up rests on: the lock, the conda environment, and what the repository must not contain."""

import re
import runpy
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


def pins() -> list[str]:
    return [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]


def test_conda_has_the_lock_s_pins() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, _, pip = conda["dependencies"]
    assert python == "python=3.11"
    assert pip["pip"] == pins()
    script = runpy.run_path(str(ROOT / "workflow" / "scripts" / "lock.py"))
    assert script["environment"]((ROOT / "requirements.lock").read_text()) == (ROOT / "environment.yml").read_text()


def test_every_requirement_is_pinned_for_every_system() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    locked = {re.split(r"[=\[ ]", pin)[0].lower().replace("_", "-") for pin in pins()}
    for requirement in wanted:
        assert re.split(r"[<>=!\[ ;]", requirement)[0].lower().replace("_", "-") in locked, requirement
    for pin in pins():
        assert re.match(r"[a-z0-9.\-]+==[^ ;]+( ; .+)?$", pin), pin
    assert {"torch==2.14.1", "torchvision==0.29.1"} <= set(pins())
    assert any(pin.startswith("setuptools==") for pin in pins())  # thop needs distutils
    for pin in pins():
        if pin.startswith(("nvidia-", "cuda-", "triton")):
            assert "sys_platform == 'linux'" in pin, f"{pin} would be asked for on macOS"


def tracked() -> list[Path]:
    command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_address_of_a_registry_and_no_big_file() -> None:
    kept = ROOT / "results" / "reference"
    for path in tracked():
        # ResNet-20's weights alone are 1.04 MiB; a page holds plotly, 1.9 MiB compressed
        most = 2 if kept / "dense" in path.parents else 4 if path == kept / path.parent.name / "report.html" else 1
        assert path.stat().st_size < most << 20, f"{path} is over {most} MiB"
        if path.suffix in {".lock", ".yml", ".toml", ".txt"} or path.name == "Makefile":
            assert not re.search(r"https?://(?!json-schema\.org)[^ ]*(pypi|simple|index|conda)", path.read_text()), path


def test_python_files_are_of_readable_size() -> None:
    for path in (ROOT / "daar").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path


def test_folders_are_named_for_what_they_hold() -> None:
    for path in tracked():
        for part in path.relative_to(ROOT).with_suffix("").parts:
            drawers = {"utils", "core", "helpers", "misc"} | ({"common"} if path.suffix != ".smk" else set())
            assert part not in drawers, path
