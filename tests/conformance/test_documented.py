"""docs/methods.md names every method and its oracle, and the example of gradients in docs/adding-a-method.md works."""

import re
from typing import Any

import pytest
import torch

from daar.methods import discovery
from daar.storage import bundled
from tests.networks import one_thread  # noqa: F401  # one_thread acts on this module
from tests.oracle.torch_pruning import residual, scored, smooth

DOCS = bundled.ROOT / "docs"
METHODS = discovery.find()
PAGE = (DOCS / "methods.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, list[str]]:
    """Of the table that begins with a heading: the names in a row's first cell → its other cells."""
    table = PAGE[PAGE.index(heading) :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]
    return {name: row[1:] for row in cells for name in re.findall(r"`(\w+)`", row[0])}


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_the_page_describes_every_method(method: Any) -> None:
    """Its source, by the year in its title, and the last of what it reads."""
    source, _, reads = rows("| method | source |")[method.name]
    year = re.search(r"\d{4}", method.info["title"])
    assert year is None or year[0] in source
    expected = [kind for kind in ("weights", "images", "labels") if kind in method.info["uses"]]
    assert reads == (expected or ["nothing"])[-1]


# methods whose oracle is in the file of another
SHARED = {"activation": "activations", "apoz": "activations"}


def test_every_contender_has_an_oracle() -> None:
    contenders = {name for name, method in METHODS.items() if not method.info.get("control", False)}
    listed = rows("| method | by hand |")
    assert set(listed) == contenders - {"daar"}, "DAAR's are in tests/method"
    oracles = bundled.ROOT / "tests" / "oracle"
    for name in listed:
        file = next(
            file for file in (oracles / f"test_{name}.py", oracles / f"test_{SHARED.get(name)}.py") if file.exists()
        )
        text = file.read_text(encoding="utf-8")
        assert f'get("{name}")' in text or f'scored("{name}"' in text or f'("{name}", ' in text, name


def test_the_documented_taylor_is_ours_in_15_lines() -> None:
    text = (DOCS / "adding-a-method.md").read_text(encoding="utf-8")
    [block] = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "my_taylor" in block]
    assert len([line for line in block.splitlines() if line.strip()]) <= 15
    held: dict[str, Any] = {}
    exec(block, held)
    model, _ = residual()
    batch, layers = smooth(6), ["conv1", "layer2.0.conv1"]
    with torch.no_grad():
        found = held["score"](model, batch, layers)
    for layer, expected in scored("taylor", model, layers, batch).items():
        assert torch.allclose(found[layer], expected, rtol=1e-5)
