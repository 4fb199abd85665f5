"""Properties: every tree of modules with one call graph has one hash."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daar.code.sources import Sources
from tests.code.trees import write

Definition = tuple[int, list[int], bool]  # a value, which others it mentions, whether it is a class
Graph = list[Definition]
MODULES = ["a", "b", "p/a", "p/c", "q/r/a", "p/__init__", "z"]
_IMPORTS = ["from", "as", "full", "within", "relative", "relative within"]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    count = draw(st.integers(2, 7))
    numbers = st.integers(0, count - 1)
    return [(draw(st.integers(0, 3)), draw(st.lists(numbers, max_size=3)), draw(st.booleans())) for _ in range(count)]


def _import(style: str, level: str, module: str, name: str) -> tuple[str, str]:
    """The line that imports a name, and how it is mentioned then."""
    return {
        "from": (f"from {module} import {name} as far_{name}", f"far_{name}"),
        "as": (f"import {module} as m_{name}", f"m_{name}.{name}"),
        "full": (f"import {module}", f"{module}.{name}"),
        "within": (f"from {module} import {name} as {name}_", f"{name}_"),
        "relative": (f"from {level} import {name} as near_{name}", f"near_{name}"),
        "relative within": (f"from {level} import {name}", name),
    }[style]


class Tree:
    """A graph as source files: what lies where, its name and how it is imported follow from the seed.

    Attributes:
        files: path → text.
        entry: the graph's first definition.
    """

    def __init__(self, graph: Graph, seed: int) -> None:
        self._dice = random.Random(seed)
        modules = [f"daar/{path}.py" for path in self._dice.sample(MODULES, 3)]
        self._place = [self._dice.choice(modules) for _ in graph]
        self._names = self._dice.sample([f"n{index}" for index in range(20)], len(graph))
        heads: dict[str, list[str]] = {file: [] for file in modules}
        bodies: dict[str, list[str]] = {file: [] for file in modules}
        for number in self._dice.sample(range(len(graph)), len(graph)):
            file = self._place[number]
            bodies[file].append(self._definition(number, graph[number], heads[file]))
        self.files = {file: "\n".join([*dict.fromkeys(heads[file]), *bodies[file]]) for file in modules}
        for folder in {parent for file in modules for parent in Path(file).parents if parent.parts}:
            self.files.setdefault(f"{folder}/__init__.py", "")
        self.entry = f"{_dotted(self._place[0])}:{self._names[0]}"

    def _definition(self, number: int, definition: Definition, heads: list[str]) -> str:
        """A function or class; `heads` gets the imports that it wants at the top of its module."""
        value, mentioned, is_class = definition
        within: list[str] = []
        names = ", ".join([self._mention(other, number, heads, within) for other in mentioned])
        name, indent = self._names[number], "        " if is_class else "    "
        lines = "".join(f"{indent}{line}\n" for line in dict.fromkeys(within))
        if is_class:
            return f"class {name}:\n    value = {value}\n    def get(self):\n{lines}        return [{names}]\n"
        return f"def {name}(x={value}):\n{lines}    made = [{names}]\n    return made, x\n"

    def _mention(self, other: int, number: int, heads: list[str], within: list[str]) -> str:
        file, name = self._place[number], self._names[other]
        if self._place[other] == file:
            return name
        module, style = _dotted(self._place[other]), self._dice.choice(_IMPORTS)
        level = "." * (len(Path(file).parts) - 1) + module.removeprefix("daar").removeprefix(".")
        line, text = _import(style, level, module, name)
        (within if "within" in style else heads).append(line)
        return text


def _dotted(file: str) -> str:
    return ".".join(Path(file.removesuffix("/__init__.py")).with_suffix("").parts)


def _check_one_hash(folder: Path, graph: Graph, seeds: tuple[int, int]) -> None:
    results = []
    for number, seed in enumerate(seeds):
        tree = Tree(graph, seed)
        for file, text in tree.files.items():
            compile(text, file, "exec")
        root = write(folder / str(number), tree.files)
        results.append((Sources(root).code_hash([tree.entry]), len(Sources(root).definitions([tree.entry]))))
    assert results[0] == results[1]


def _check_an_edit(folder: Path, graph: Graph, seed: int, edited: int) -> None:
    """One value is another: the hash is another exactly if the entry reaches it."""
    reached, waiting = set(), [0]
    while waiting:
        number = waiting.pop()
        if number not in reached:
            reached.add(number)
            waiting += graph[number][1]
    value, mentioned, is_class = graph[edited]
    other = [*graph[:edited], (value + 5, mentioned, is_class), *graph[edited + 1 :]]
    hashes = []
    for name, which in (("before", graph), ("after", other)):
        tree = Tree(which, seed)
        hashes.append(Sources(write(folder / name, tree.files)).code_hash([tree.entry]))
    assert (hashes[0] != hashes[1]) == (edited in reached)


SEEDS = st.integers(0, 10**6)


@settings(max_examples=40)
@given(graph=graphs(), seeds=st.tuples(SEEDS, SEEDS))
def test_a_call_graph_has_one_hash(
    tmp_path_factory: pytest.TempPathFactory, graph: Graph, seeds: tuple[int, int]
) -> None:
    _check_one_hash(tmp_path_factory.mktemp("tree"), graph, seeds)


@settings(max_examples=40)
@given(graph=graphs(), seed=SEEDS, data=st.data())
def test_a_value_edited_anywhere_changes_the_hash_if_it_is_reached(
    tmp_path_factory: pytest.TempPathFactory, graph: Graph, seed: int, data: st.DataObject
) -> None:
    edited = data.draw(st.sampled_from(range(len(graph))))
    _check_an_edit(tmp_path_factory.mktemp("tree"), graph, seed, edited)


@pytest.mark.slow
@settings(max_examples=1500)
@given(graph=graphs(), seeds=st.tuples(SEEDS, SEEDS), number=st.integers(0, 6))
def test_both_hold_of_many_call_graphs(
    tmp_path_factory: pytest.TempPathFactory, graph: Graph, seeds: tuple[int, int], number: int
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    _check_one_hash(folder, graph, seeds)
    _check_an_edit(folder, graph, seeds[0], number % len(graph))
