"""Paths of the files that come with daar: in the checkout of this package, else in its installed copy.

Both have the same layout: Snakefile, environment.yml, workflow/, baselines/, profiles/.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
RESULT_NEUTRAL = "says where files lie, not what is in them"


def _root() -> Path:
    checkout = _PACKAGE.parent
    return checkout if (checkout / "Snakefile").is_file() else _PACKAGE / "share"


ROOT = _root()
PACKAGE = _PACKAGE
BASELINES = ROOT / "baselines"
SCHEMAS = ROOT / "workflow" / "schemas"
RESOURCES = ROOT / "workflow" / "resources"
SUITES = ROOT / "workflow" / "config"
