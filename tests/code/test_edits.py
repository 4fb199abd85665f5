"""Edits that may change a result: each must change the hash, to one of its own."""

import pytest

from tests.code.trees import BASE, Hashed, replaced

EDITS = {
    "a constant": ("STEPS = 3", "STEPS = 4"),
    "a constant's type": ("STEPS = 3", "STEPS = 3.0"),
    "a constant's type, true": ("step // size for size in (3, 4)", "step // size for size in (True, 4)"),
    "a default": ("count: int = 2", "count: int = 3"),
    "a default gone": (", count: int = 2,", ", count: int,"),
    "an operator": ("rates.rate(step, scale=scale) * count", "rates.rate(step, scale=scale) / count"),
    "a comparison": ("total < 0", "total <= 0"),
    "a body three calls deep": ("step // size", "step % size"),
    "a constant behind an imported module": ("FACTOR = 0.5", "FACTOR = 0.6"),
    "a decorator": ("@functools.cache", "@functools.lru_cache"),
    "no decorator": ("@functools.cache\n", ""),
    "a base class": ("class Layer(Base)", "class Layer(nn.Module)"),
    "a foreign base class": ("class Base(nn.Module)", "class Base(nn.Conv2d)"),
    "a class attribute": ("power = 2", "power = 3"),
    "a class attribute's name": ("power = 2", "force = 2"),
    "a field": ("name: str", "title: str"),
    "a field's kind": ("name: str", "name: ClassVar[str]"),
    "a keyword's name": ("scale=scale", "size=scale"),
    "a parameter's name": ("*, scale: float = 1.0", "*, scales: float = 1.0"),
    "a parameter by keyword only": ("count: int = 2, *, scale", "*, count: int = 2, scale"),
    "an exception's class": ("raise ValueError(", "raise TypeError("),
    "an exception of ours": ("raise Stop", "raise ValueError"),
    "an attribute's name": ("layer.forward", "layer.backward"),
    "a method's name": ("def forward", "def backward"),
    "a foreign function": ("functional.relu(", "functional.gelu("),
    "a statement gone": ("    if total == 1:\n        raise Stop\n    print", "    print"),
    "statements in another order": (
        '    if total == 1:\n        raise Stop\n    print("done", total)\n    layer: nn.Module = make(model)\n',
        "    layer: nn.Module = make(model)\n    if total == 1:\n        raise Stop\n",
    ),
    "what a loop does": ("        total += rates.rate(step, scale=scale) * count\n", "        pass\n"),
    "an assertion": ("assert layer,", "assert not layer,"),
    "an argument of a call": ("make(model)\n    assert", "make(None)\n    assert"),
    "another local": ("layer.forward(total)", "layer.forward(step)"),
    "an index": ("(3, 4)][0]", "(3, 4)][1]"),
    "a swap of two calls": ("FACTOR ** step + _third(step)", "_third(step) + FACTOR ** step"),
    "a return in place of a print": ('    print("done", total)', '    return print("done", total)'),
    "a shadow of print": ("STEPS = 3", "STEPS = 3\nfrom daar.maths.layers import make as print"),
    "what runs at import": ("STEPS = 3", "STEPS = 3\nnn.Module.x = 1"),
    "a call at import": ("STEPS = 3", "STEPS = 3\ntorch.set_num_threads(1)"),
    "an augmented constant": ("STEPS = 3", "STEPS = 3\nSTEPS += 1"),
    "a constant bound twice": ("STEPS = 3", "STEPS = 3\nif torch:\n    STEPS = 5"),
}


@pytest.mark.parametrize("name", EDITS)
def test_edits_change_the_hash(hashed: Hashed, name: str) -> None:
    assert hashed(replaced(*EDITS[name])) != hashed(BASE)


def test_no_two_edits_have_one_hash(hashed: Hashed) -> None:
    found = [hashed(replaced(*edit)) for edit in EDITS.values()]
    assert len(set(found)) == len(found)
