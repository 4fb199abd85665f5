"""What counts besides functions: neutral modules, methods by their path, whole modules, classes of arguments, files."""

import re
from pathlib import Path

import pytest

from daar.code.sources import Sources
from tests.code.trees import BASE, RUN, Hashed, renamed, replaced, write

NEUTRAL = {
    "daar/__init__.py": "",
    "daar/a.py": "from daar import b\n\ndef m():\n    return b.read(1)\n",
    "daar/b.py": 'RESULT_NEUTRAL = "reads files"\n\ndef read(x):\n    return x\n\ndef write(x):\n    return x\n',
}


def test_of_a_neutral_module_only_the_name_counts(hashed: Hashed) -> None:
    entry = "daar.a:m"
    before = hashed(NEUTRAL, entry)
    assert hashed(replaced("def read(x):\n    return x", "def read(x):\n    return 2", NEUTRAL), entry) == before
    assert hashed(renamed(replaced("import b", "import c as b", NEUTRAL), "daar/b.py", "daar/c.py"), entry) == before
    assert hashed(replaced("b.read(1)", "b.write(1)", NEUTRAL), entry) != before
    assert hashed(replaced('RESULT_NEUTRAL = "reads files"', "", NEUTRAL), entry) != before


def test_a_module_is_neutral_if_the_caller_says_so(hashed: Hashed) -> None:
    unmarked = replaced('RESULT_NEUTRAL = "reads files"', "", NEUTRAL)
    assert hashed(unmarked, "daar.a:m", neutral=("daar.b",)) == hashed(NEUTRAL, "daar.a:m")


def test_a_module_named_by_an_entry_is_not_neutral(hashed: Hashed) -> None:
    entries = ("daar.b:read",)
    changed = replaced("def read(x):\n    return x", "def read(x):\n    return 2", NEUTRAL)
    assert hashed(NEUTRAL, *entries) != hashed(changed, *entries)


def test_a_method_is_found_by_its_path_and_imports_its_own_files(tmp_path: Path) -> None:
    root = write(tmp_path / "tree", BASE)
    method = write(
        tmp_path / "methods" / "mine",
        {
            "method.py": "from daar.maths.rates import rate\n\nfrom .own import part\n\n\n"
            "def score():\n    return part() + rate(1, 2)\n",
            "own.py": "def part():\n    return 1\n",
        },
    )
    entry = f"{method}/method.py:score"
    found = Sources(root).definitions([entry])
    assert [one.rpartition(":")[2] for one in found] == ["score", "part", "rate", "_decay", "FACTOR", "_third"]
    before = Sources(root).code_hash([entry])
    (method / "own.py").write_text("def part():\n    return 2\n")
    assert Sources(root).code_hash([entry]) != before


def test_the_same_file_by_path_and_by_name_is_one_module(tmp_path: Path) -> None:
    root = write(tmp_path, BASE)
    by_path = Sources(root).code_hash([f"{root}/daar/stages/run.py:run"])
    assert by_path == Sources(root).code_hash([RUN])


def test_all_of_a_module(tmp_path: Path, hashed: Hashed) -> None:
    root = write(tmp_path / "tree", BASE)
    found = Sources(root).definitions(["daar.maths.rates:*"])
    assert found[0] == "daar.maths.rates:*"
    assert {one.rpartition(":")[2] for one in found[1:]} == {"FACTOR", "rate", "_decay", "_third"}
    files = {"daar/__init__.py": "", "daar/b.py": "X = 1\n", "daar/a.py": "from daar import b\n\nm = vars(b)\n"}
    assert hashed(files, "daar.a:m") != hashed({**files, "daar/b.py": "X = 1\nY = 2\n"}, "daar.a:m")
    by_text = {**files, "daar/a.py": 'import importlib\n\nm = importlib.import_module("daar.b")\n'}
    assert hashed(by_text, "daar.a:m") != hashed({**by_text, "daar/b.py": "X = 2\n"}, "daar.a:m")


TYPED = {
    "daar/__init__.py": "",
    "daar/a.py": "from daar.b import Either\n\ndef m(x: 'Either'):\n    return x.go()\n",
    "daar/b.py": "class A:\n    def go(self):\n        return 1\n\nclass B:\n    pass\n\nEither = A | B\n",
}


def test_the_class_of_an_argument_counts(hashed: Hashed) -> None:
    before = hashed(TYPED, "daar.a:m")
    changed = replaced("return 1", "return 2", TYPED)
    assert hashed(changed, "daar.a:m") != before
    assert hashed(changed, "daar.a:m", typed=False) == hashed(TYPED, "daar.a:m", typed=False)


def test_an_annotation_of_what_is_reached_anyway_changes_nothing(hashed: Hashed) -> None:
    files = {**TYPED, "daar/a.py": "from daar.b import A, B\n\ndef m(x: A, y):\n    return [C, B(), A()]\n\nC = 1\n"}
    assert hashed(files, "daar.a:m") == hashed(replaced("x: A, y", "x, y: 'list[B]'", files), "daar.a:m")


def test_a_decorator_that_registers_belongs_to_the_registry(hashed: Hashed) -> None:
    files = {
        "daar/__init__.py": "",
        "daar/a.py": "import functools\n\n@functools.singledispatch\ndef m(x):\n    return 1\n\n"
        "@m.register(int)\ndef _(x):\n    return 2\n",
    }
    assert hashed(files, "daar.a:m") != hashed(replaced("return 2", "return 3", files), "daar.a:m")


def test_an_optional_import_is_one_definition(tmp_path: Path) -> None:
    text = "try:\n    import fcntl\nexcept ImportError:\n    fcntl = None\n\ndef m():\n    return fcntl.flock\n"
    root = write(tmp_path, {"daar/__init__.py": "", "daar/a.py": text})
    assert Sources(root).definitions(["daar.a:m"]) == ["daar.a:m", "daar.a:fcntl"]
    other = write(
        tmp_path / "other", {"daar/__init__.py": "", "daar/a.py": text.replace("import fcntl", "import x as fcntl")}
    )
    assert Sources(root).code_hash(["daar.a:m"]) != Sources(other).code_hash(["daar.a:m"])


def test_of_yaml_and_json_the_content_counts(tmp_path: Path) -> None:
    sources = Sources(write(tmp_path, BASE))

    def of(name: str, text: str) -> str:
        file = tmp_path / name
        file.write_text(text)
        return Sources(tmp_path).code_hash([RUN], [file])

    assert of("a.yaml", "a: 1 # one\n") == of("b.yaml", "{a: 1}\n") == of("c.json", '{"a":\n 1}')
    assert of("a.yaml", "a: 1\n") != of("a.yaml", "a: '1'\n")
    assert of("a.txt", "a: 1\n") != of("a.txt", "a:  1\n")
    one, other = tmp_path / "a.txt", tmp_path / "b.yaml"
    assert sources.code_hash([RUN], [one, other]) == sources.code_hash([RUN], [other, one]) != sources.code_hash([RUN])


@pytest.mark.parametrize(
    "entry",
    ["daar.none:x", "daar.stages.run:none", "daar.stages:run", "torch.nn:Module", "/none.py:x", "daar", "daar:torch"],
)
def test_an_unknown_entry_is_refused(tmp_path: Path, entry: str) -> None:
    with pytest.raises(ValueError, match=f"expected .*, got '{re.escape(entry)}'"):
        Sources(write(tmp_path, BASE)).code_hash([entry])


@pytest.mark.parametrize("text", ["def (:\n", "from daar.maths import *\n"])
def test_a_file_that_cannot_be_followed_is_named(tmp_path: Path, text: str) -> None:
    root = write(tmp_path, {**BASE, "daar/maths/rates.py": text})
    with pytest.raises(ValueError, match=r"maths.rates\.py"):
        Sources(root).code_hash([RUN])


def test_sources_are_read_once(tmp_path: Path) -> None:
    root = write(tmp_path, BASE)
    sources = Sources(root)
    before = sources.code_hash([RUN])
    write(root, replaced("STEPS = 3", "STEPS = 4"))
    assert sources.code_hash([RUN]) == sources.code_hash(iter([RUN])) == before != Sources(root).code_hash([RUN])
