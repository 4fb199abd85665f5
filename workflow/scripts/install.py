"""Install packages by pip and say what is downloaded: a line for each large file, and one for all.

Run by `make setup`, in an environment that has nothing but pip. Arguments go to `pip install`, whose exit code it has.
"""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator

# "Downloading torch-2.14.1-cp311-cp311-manylinux_2_28_x86_64.whl (899.8 MB)"; not "….whl.metadata (1 kB)"
_FILE = re.compile(r"\s*Downloading (?:\S*/)?([\w.]+)-([^-\s]+?)(?:-\S+)?\.(?:whl|tar\.gz|zip) \(([\d.]+) (kB|MB|GB)\)")
_MB = {"kB": 1e-3, "MB": 1.0, "GB": 1e3}
_LARGE_MB = 10


def said(lines: Iterable[str]) -> Iterator[str]:
    """What is said of pip's lines."""
    in_all = 0.0
    for line in lines:
        if found := _FILE.match(line):
            name, version, size, unit = found.groups()
            size_mb = float(size) * _MB[unit]
            in_all += size_mb
            if size_mb >= _LARGE_MB:
                yield f"  downloading {name} {version}, {_readable(size_mb)}"
        elif line.startswith("Installing collected packages: "):
            packages = line.count(",") + 1
            yield f"  {_readable(in_all)} downloaded; installing {packages} packages"


def main(arguments: list[str]) -> int:
    """Install; returns pip's exit code."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
        *arguments,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as pip:
        for line in said(pip.stdout or ()):
            print(line, flush=True)
    return pip.returncode


def _readable(size_mb: float) -> str:
    return f"{size_mb / 1000:.1f} GB" if size_mb >= 1000 else f"{size_mb:.0f} MB"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
