"""Put what lies next to the package in a checkout into the wheel too, as daar/share/; all else is in pyproject.toml."""

from collections.abc import Iterator
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# daar/storage/bundled.py finds them in either place
SHARED = (
    "Snakefile",
    "environment.yml",
    "baselines/**/*",
    "profiles/**/*",
    *(
        f"workflow/{folder}/**/*"
        for folder in ("config", "profiles", "report", "resources", "rules", "schemas", "starter")
    ),
)


class BuildWithShare(build_py):
    """As setuptools', and an editable install reads the checkout itself."""

    def run(self) -> None:
        """Copy modules and package data, then what is shared."""
        super().run()
        if not self.editable_mode:
            for source, target in self._shared():
                self.mkpath(str(target.parent))
                self.copy_file(str(source), str(target))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """All files of the package in the build folder."""
        shared = () if self.editable_mode else self._shared()
        return [*super().get_outputs(include_bytecode), *(str(target) for _, target in shared)]

    def _shared(self) -> Iterator[tuple[Path, Path]]:
        """Each shared file, and where it goes."""
        share = Path(self.build_lib, "daar", "share")
        for pattern in SHARED:
            found = [path for path in sorted(Path().glob(pattern)) if path.is_file() and path.suffix != ".pyc"]
            if not found:
                raise FileNotFoundError(f"{pattern} matches no file. Build from a checkout or an sdist.")
            yield from ((path, share / path) for path in found)


setup(cmdclass={"build_py": BuildWithShare})
