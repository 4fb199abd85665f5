"""What a newcomer's set-up rests on: the lock, the conda environment, and what the repository must not contain."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from daar.methods import discovery

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


def test_a_set_up_for_the_cpu_leaves_out_what_is_cuda_s() -> None:
    patterns = re.findall(r"^(?:TORCH|CUDA) +:= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    left_out = {pin for pin in pins() if any(re.search(pattern, pin) for pattern in patterns)}
    # CUDA's libraries are the packages that are wanted on Linux alone
    assert left_out == {pin for pin in pins() if pin.endswith("sys_platform == 'linux'")} | {
        pin for pin in pins() if pin.startswith(("torch==", "torchvision=="))
    }


def tracked() -> list[Path]:
    command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_address_of_a_registry_and_no_big_file() -> None:
    kept = ROOT / "results" / "reference"
    for path in tracked():
        # ResNet-20's weights alone are 1.04 MiB; a page holds plotly, 1.9 MiB compressed, and figures of up to 39 rows
        most = 2 if kept / "dense" in path.parents else 5 if path == kept / path.parent.name / "report.html" else 1
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


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of what git knows, so that what lies about here is not built."""
    folder = tmp_path_factory.mktemp("source")
    for path in tracked():
        if path.relative_to(ROOT).parts[0] not in ("results", "tests"):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    for ignored in ("tests/test_x.py", "results/x.csv"):
        (folder / ignored).parent.mkdir()
        (folder / ignored).touch()
    return folder


def build(kind: str, source: Path, out: Path) -> Path:
    """A wheel or an sdist, by the packages that are installed and without a network."""
    ask = f"import sys; from setuptools import build_meta as b; b.build_{kind}(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", ask, out], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


def content(wheel: Path) -> dict[str, bytes]:
    """File → what is in it, but for the list of files and its hashes."""
    with zipfile.ZipFile(wheel) as archive:
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
        assert len(set(names)) == len(names)
        return {name: archive.read(name) for name in names if not name.endswith("RECORD")}


def test_a_wheel_has_all_that_daar_reads_and_nothing_twice(wheel: Path) -> None:
    packed = content(wheel)
    own = {path.relative_to(ROOT).as_posix() for path in tracked()}
    package = {name for name in own if name.startswith(("daar/", "snakemake_logger_plugin_daar/"))}
    parts = ("config", "profiles", "report", "resources", "rules", "schemas", "starter")
    shared = {"Snakefile", "environment.yml"} | {
        name for name in own if name.startswith(("baselines/", "profiles/", *(f"workflow/{part}/" for part in parts)))
    }
    expected = package | {f"daar/share/{name}" for name in shared}
    assert {name for name in packed if ".dist-info/" not in name} == expected
    for name in expected:
        assert packed[name] == (ROOT / name.removeprefix("daar/share/")).read_bytes(), name
    # nothing that is long enough to matter is there under two names
    long = [text for text in packed.values() if len(text) > 200]
    assert len(set(long)) == len(long)


def test_an_sdist_makes_the_same_wheel(source: Path, wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "sdist").mkdir()
    (tmp_path / "wheel").mkdir()
    with tarfile.open(build("sdist", source, tmp_path / "sdist")) as archive:
        names = {Path(*Path(name).parts[1:]).as_posix() for name in archive.getnames()}
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert not [name for name in names if name.startswith(("tests", "results", "benchmarks"))]
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert content(build("wheel", unpacked, tmp_path / "wheel")) == content(wheel)


def test_an_editable_install_copies_nothing(source: Path, tmp_path: Path) -> None:
    assert not [name for name in content(build("editable", source, tmp_path)) if "share" in name]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of an environment with the wheel in it, which sees the packages of this one but for daar."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    names = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", names))
    # of a folder that a .pth file names no further .pth files are read, so none of an editable daar
    (site / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    return folder / "bin"


def outside(installed: Path, *arguments: str, cwd: Path) -> str:
    """What a program of that environment prints; nothing of this checkout is in its way."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(installed / arguments[0]), *arguments[1:]]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


PRUNE = """
import daar, torch
from torch import nn
print(daar.__file__)
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                      nn.Linear(8, 4))
pruned = daar.prune(model, torch.randn(4, 3, 12, 12), macs_reduction=0.4, method="fpgm")
print(pruned.model(torch.randn(4, 3, 12, 12)).shape)
"""


@pytest.mark.slow
def test_an_installed_wheel_works_outside_any_checkout(installed: Path, tmp_path: Path) -> None:
    methods = outside(installed, "daar", "list", "methods", cwd=tmp_path)
    assert {line.split()[0] for line in methods.splitlines()} == set(discovery.find())
    renamed = {file.name: file.read_text() for file in (ROOT / "baselines" / "_template").iterdir()}
    (tmp_path / "own").mkdir()
    for name, text in renamed.items():
        (tmp_path / "own" / name).write_text(text.replace("my_method", "own"))
    assert "method 'own' passes all 23 checks" in outside(installed, "daar", "method", "check", "own", cwd=tmp_path)
    where, shape = outside(installed, "python", "-c", PRUNE, cwd=tmp_path).splitlines()
    assert Path(where).is_relative_to(installed.parent)
    assert shape == "torch.Size([4, 4])"
    for name in ("demo", "paper"):
        listed = outside(installed, "daar", "run", name, "--", "-n", "--quiet", "rules", cwd=tmp_path)
        assert "This was a dry-run" in listed
        assert re.search(r"^finetune +\d+$", listed, re.MULTILINE)
    assert not any(tmp_path.glob("results/*"))


@pytest.mark.slow
def test_the_folder_to_start_from_runs_with_an_installed_wheel(installed: Path, tmp_path: Path) -> None:
    outside(installed, "daar", "init", "mine", cwd=tmp_path)
    short = "train={epochs: 2}", "finetune={epochs: 1}", "seeds=[0]"
    said = outside(installed, "daar", "run", "suite.yaml", "--", "--config", *short, cwd=tmp_path / "mine")
    assert re.search(r"^report: +results/mine/report\.html$", said, re.MULTILINE)
    table = (tmp_path / "mine/results/mine/tables/digits-resnet20.md").read_text()
    assert "Methods: My method: Author et al. 2026" in table
    assert "| My method " in table
    again = outside(installed, "daar", "run", "suite.yaml", "-n", "--", "--config", *short, cwd=tmp_path / "mine")
    assert "Nothing to be done" in again


# as pip 23 and 26 write it
PIP = """\
Looking in links: /opt/wheels
Collecting torch==2.14.1 (from -r requirements.lock (line 120))
  Downloading torch-2.14.1-cp311-cp311-manylinux_2_28_x86_64.whl.metadata (30 kB)
Collecting nvidia-cublas==13.1.1.3 (from -r requirements.lock (line 70))
  Downloading https://example.org/a/nvidia_cublas-13.1.1.3-py3-none-manylinux_2_27_x86_64.whl (1.2 GB)
  Using cached pandas-3.1.1-cp311-cp311-manylinux_2_28_x86_64.whl (11.0 MB)
  Downloading thop-0.1.1.post2209072238.tar.gz (15 kB)
Downloading torch-2.14.1-cp311-cp311-manylinux_2_28_x86_64.whl (899.8 MB)
   ---------------------------------------- 899.8/899.8 MB 250.0 MB/s  0:00:03
Downloading scipy-1.18.1-cp311-cp311-manylinux_2_27_x86_64.whl (9.9 MB)
Installing collected packages: thop, torch, scipy
Successfully installed thop-0.1.1 torch-2.14.1 scipy-1.18.1
"""


def test_a_set_up_says_what_it_downloads(capfd: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(ROOT / "workflow" / "scripts" / "install.py"))
    assert list(script["said"](PIP.splitlines())) == [
        "  downloading nvidia_cublas 13.1.1.3, 1.2 GB",
        "  downloading torch 2.14.1, 900 MB",
        "  2.1 GB downloaded; installing 3 packages",
    ]
    # pip's exit code and its errors
    assert script["main"](["--no-index", "no-such-package-of-daar"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "No matching distribution found for no-such-package-of-daar" in err
