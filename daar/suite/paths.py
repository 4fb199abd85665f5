"""Where results are: patterns with Snakemake's wildcards, which rules take as they are and others fill in.

Imported while the DAG is built: neither torch nor numpy.
"""

RESULTS = "results"
PACKS = f"{RESULTS}/data"
DENSE = f"{RESULTS}/dense"
# Snakemake's metadata of every result, and what packs hold: goes with a copy of the results
PROVENANCE = f"{RESULTS}/provenance"
REFERENCE = f"{RESULTS}/reference"
# names in RESULTS that no suite may have; the last is of the benchmarks (benchmarks/__main__.py)
RESERVED = ("data", "dense", "reference", "provenance", "bench")

# below DENSE
DENSE_NETWORK = "{dataset}/{network}/{recipe}/seed{seed}"
# below the suite's folder in RESULTS
VARIANT = "{dataset}/{network}/seed{seed}/{variant}"
SETTING = f"{VARIANT}/{{policy}}-{{scope}}-{{target}}"
STABILITY = "{dataset}/{network}/stability/{variant}"

# Regular expressions of wildcards. A recipe: the hash of Recipe.to_json(), with -xN for N processes; or that of a Base.
TRAINED = "[0-9a-f]{12}(-x[0-9]+)?"
IMPORTED = "import-[0-9a-f]{8}"
TARGET = r"own|0\.\d+|\d(\.\d+)?e-\d+"

_OWN_RATE = "own"


def target_to_text(target: float | None) -> str:
    """A target as paths have it, with all its digits, so that no two share a path; None is the policy's own rate."""
    return _OWN_RATE if target is None else repr(float(target))


def target_from_text(text: str) -> float | None:
    """The target that a path names."""
    return None if text == _OWN_RATE else float(text)
