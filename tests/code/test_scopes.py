"""Python's rules of scope: against cases, and against the standard library's symtable."""

import ast
import re
import symtable
from collections.abc import Iterator
from pathlib import Path

import pytest

from daar.code.canonical import Meaning, Reference, canonical
from daar.code.sources import Sources
from daar.storage.bundled import PACKAGE
from tests.code.trees import write

# whether the entry `m` refers to the top-level `f`, and so to it alone
SCOPES = [
    ("def m():\n    return f()", True),
    ("def m():\n    f = 1\n    return f", False),
    ("def m():\n    g = f\n    def inner():\n        f = 1\n        return f\n    return g", True),
    ("def m():\n    def inner():\n        f = 1\n    return f", True),
    ("def m(f):\n    return lambda: f", False),
    ("def m(x=f):\n    f = x", True),
    ("def m():\n    f = 1\n    def inner(x=f):\n        return f\n    return inner", False),
    ("def m():\n    f = 1\n    def inner():\n        global f\n        return f\n    return inner", True),
    ("def m():\n    global f\n    def inner():\n        return f\n    return inner", True),
    ("def m():\n    f = 1\n    def inner():\n        nonlocal f\n        f = 2\n    return inner", False),
    ("def m():\n    return [f for f in range(3)]", False),
    ("def m():\n    return [x for x in f]", True),
    ("def m():\n    return [f for f in f]", True),
    ("def m():\n    return [f for x in y for f in x], f", True),
    ("def m():\n    return [y for x in f.a for y in x if (f := x)]", False),
    ("def m():\n    [(f := x) for x in range(3)]\n    return f", False),
    ("def m():\n    return [lambda: f for _ in range(3)]", True),
    ("def m():\n    if (f := 1):\n        return f", False),
    ("def m():\n    try:\n        pass\n    except E as f:\n        return f", False),
    ("def m():\n    with open('x') as (f, g):\n        return f", False),
    ("def m():\n    for f, *g in []:\n        return f", False),
    ("def m():\n    import f\n    return f", False),
    ("def m():\n    from x import y as f\n    return f.z", False),
    ("def m():\n    match x:\n        case [f, *_]:\n            return f", False),
    ("def m():\n    match x:\n        case {'a': 1, **f}:\n            return f", False),
    ("def m():\n    match x:\n        case f.a:\n            return 1", True),
    ("def m():\n    match x:\n        case C(f=1):\n            return 1", False),
    ("def m():\n    del f", False),
    ("def m():\n    f: int\n    return f", False),
    ("def m():\n    x.f = 1\n    return x.f(f=2)", False),
    ("class m:\n    f = 1\n    def g(self):\n        return f", True),
    ("class m:\n    def f(self):\n        return self.f", False),
    ("class m:\n    g = f", True),
    ("class m:\n    f = f", True),
    ("class m:\n    f = 1\n    x = [f for _ in range(3)]", True),
    ("class m:\n    f = 1\n    x = [y for y in z]", False),
    (
        "def m():\n    f = 1\n    class C:\n        x = f\n        def g(self):\n            return f\n    return C",
        False,
    ),
    ("def m():\n    class f:\n        pass\n    return f", False),
    ("def m(*f, **g):\n    return f, g", False),
    ("m = lambda f, /, x=1: f + x", False),
    ("m = [f for f in range(3)]", False),
    ("m = f'{f!r:>{3}}'", True),
    ("m = 'f'", False),
    ("@f\nclass m:\n    pass", True),
    ("class m(metaclass=f):\n    pass", True),
    ("def m():\n    raise E(f)", False),
    ("def m():\n    raise f(1) from f", True),
    ("def m(x: f = 1) -> f:\n    y: f = x", False),
    ("async def m():\n    async for f in g():\n        yield f", False),
]


@pytest.mark.parametrize(("text", "refers"), SCOPES)
def test_names_are_resolved_by_pythons_scopes(tmp_path: Path, text: str, refers: bool) -> None:
    root = write(tmp_path, {"daar/__init__.py": "", "daar/a.py": f"def f():\n    return 1\n\n\n{text}\n"})
    assert Sources(root, typed=False).definitions(["daar.a:m"]) == ["daar.a:m", *(["daar.a:f"] if refers else [])]


class Recorder:
    """Takes every global name for foreign and notes it."""

    def __init__(self) -> None:
        self.globals: set[str] = set()

    def of_global(self, path: tuple[str, ...]) -> Meaning:
        self.globals.add(path[0])
        return Meaning(".".join(path))

    def of_import(self, level: int, path: tuple[str, ...]) -> Meaning:
        return Meaning("." * level + ".".join(path))

    def of_text(self, text: str) -> Reference | None:  # noqa: ARG002
        return None


class _Bare(ast.NodeTransformer):
    """Removes what the canonical form leaves out, so that symtable does not see it either."""

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(0)
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        node.cause = None
        node.exc = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for inner in table.get_children():
        yield from _tables(inner)


def _is_global(symbol: symtable.Symbol) -> bool:
    # is_global() alone takes all names of a function named `top` for global, up to Python 3.12
    bound = symbol.is_parameter() or symbol.is_assigned()
    return symbol.is_declared_global() or (symbol.is_global() and not bound)


def _by_python(statement: ast.stmt) -> tuple[set[str], set[str]]:
    """The global names of a top-level function or class as symtable has them, and those that classes bind."""
    text = ast.unparse(ast.Module([statement], []))
    top, *inner = _tables(symtable.symtable(text, "x", "exec"))
    names = {symbol.get_name() for symbol in top.get_symbols()}
    in_classes = set()
    for table in inner:
        for symbol in table.get_symbols():
            if _is_global(symbol):
                names.add(symbol.get_name())
            elif table.get_type() == "class":
                in_classes.add(symbol.get_name())
    return names, in_classes


def _disagreements(file: Path) -> Iterator[str]:
    """A line for every definition of a file whose global names are not those of symtable."""
    for statement in _Bare().visit(ast.parse(file.read_bytes())).body:
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        recorder = Recorder()
        canonical([statement], recorder)
        names, in_classes = _by_python(statement)
        # Python mangles private names in classes, and symtable tells them so
        mangled = {name for name in recorder.globals if re.fullmatch(r"__\w*(?<!__)", name)}
        expected = {name for name in names if not re.match(r"_\w*__\w", name)}
        missing = expected - recorder.globals - {"__class__"}
        extra = recorder.globals - expected - in_classes - mangled - {"TYPE_CHECKING"}
        if missing or extra:
            yield f"{file}:{statement.lineno}: missing {sorted(missing)}, extra {sorted(extra)}"


def _standard_library() -> list[Path]:
    return sorted(Path(ast.__file__).parent.glob("*.py"))


def test_scopes_agree_with_symtable() -> None:
    few = {"argparse.py", "dataclasses.py", "enum.py", "functools.py", "typing.py"}
    standard = [file for file in _standard_library() if file.name in few]
    own = [*(PACKAGE / "training").glob("*.py"), *(PACKAGE / "pruning").glob("*.py")]
    assert len(standard) == len(few)
    assert len(own) > 20
    assert [line for file in [*own, *standard] for line in _disagreements(file)] == []


@pytest.mark.slow
def test_scopes_agree_with_symtable_over_the_package_and_the_standard_library() -> None:
    read = [*sorted(PACKAGE.rglob("*.py")), *_standard_library()]
    assert len(read) > 250
    assert [line for file in read for line in _disagreements(file)] == []
