"""A hash of what code does, not of where it lies: the definitions that an entry reaches, each in canonical form.

Definitions are functions, classes and constants: top-level statements that bind a name. They are numbered in the
order in which the entries reach them, depth first, and a mention of one is its number. So names of definitions and
modules do not count, and files do not. canonical.py says what counts within a definition. Classes that only
annotations name come last, since the methods that are called on an argument are theirs.

A module that carries results without shaping them says so: `RESULT_NEUTRAL = "<why>"`. A mention of something in it
counts by its name, and is not followed.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from daar.code.canonical import Canonical, Meaning, Reference, canonical
from daar.code.scopes import Bindings, Target, is_type_checking

MARKER = "RESULT_NEUTRAL"
_ALL = "*"  # as a name: every definition of a module
_AT_IMPORT = "<import>"  # as a name: the statements of a module that are run but bind nothing


class Module:
    """What the top level of one file binds, and to what.

    Attributes:
        definitions: name → the statements that bind it, in order.
        imports: name → what an import alone binds it to, be it for type checkers only.
        at_import: statements that do more than bind names.
    """

    def __init__(self, file: Path) -> None:
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.at_import: list[ast.stmt] = []
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"expected Python code in {file}, got: {error}") from error
        run = [(statement, Bindings([statement])) for statement in _run(tree.body)]
        everything = Bindings(statement for statement, _ in run)
        self.imports = _aliases(everything)
        if _ALL in everything.imports:
            raise ValueError(f"expected imports by name in {file}, got `import *`, which cannot be followed")
        for statement, bound in run:
            self._take(statement, sorted({*bound.names, *bound.imports} - set(self.imports)))
        typed = _aliases(Bindings(tree.body))
        self.imports |= {name: typed[name] for name in typed.keys() - self.definitions.keys() - self.imports.keys()}

    def _take(self, statement: ast.stmt, names: list[str]) -> None:
        for name in [*names, *self._registries(statement)]:
            self.definitions.setdefault(name, []).append(statement)
        if _acts(statement):
            self.at_import.append(statement)

    def _registries(self, statement: ast.stmt) -> Iterator[str]:
        """Definitions that a decorator adds to, such as f in `@f.register`: the statement belongs to them as well."""
        for decorator in getattr(statement, "decorator_list", ()):
            base = decorator.func if isinstance(decorator, ast.Call) else decorator
            name = getattr(base.value, "id", None) if isinstance(base, ast.Attribute) else None
            if name in self.definitions and name != getattr(statement, "name", None):
                yield name


def _aliases(bindings: Bindings) -> dict[str, Target]:
    found = {name: bindings.alias(name) for name in bindings.imports}
    return {name: target for name, target in found.items() if target is not None}


def _run(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The top-level statements that are run when a module is imported, and may count."""
    for statement in body:
        if is_type_checking(statement):
            yield from _run(getattr(statement, "orelse", ()))
        elif not _is_main(statement) and not _is_about_all(statement):
            yield statement


def _is_main(statement: ast.stmt) -> bool:
    """Whether it is `if __name__ == "__main__":` and nothing else."""
    if not isinstance(statement, ast.If) or not isinstance(statement.test, ast.Compare) or statement.orelse:
        return False
    return ast.unparse(statement.test) == "__name__ == '__main__'"


def _is_about_all(statement: ast.stmt) -> bool:
    """Whether it is a call such as `__all__.append(…)`."""
    call = getattr(statement, "value", None)
    return isinstance(call, ast.Call) and getattr(getattr(call.func, "value", None), "id", None) == "__all__"


def _acts(statement: ast.stmt) -> bool:
    """Whether a top-level statement does more than bind names."""
    if isinstance(statement, ast.Expr):
        return not isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.Delete | ast.Raise | ast.Assert):
        return True
    if isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return any(isinstance(node, ast.Attribute | ast.Subscript) for target in targets for node in _parts(target))
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    return any(_acts(inner) for inner in _nested(statement))


def _parts(target: ast.expr) -> Iterator[ast.expr]:
    """What a target assigns to: of a tuple its elements."""
    if isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from _parts(element)
    else:
        yield target.value if isinstance(target, ast.Starred) else target


def _nested(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements directly within a compound statement."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child
        elif isinstance(child, ast.excepthandler | ast.match_case):
            yield from _nested(child)


class Sources:
    """Reads one source tree, each file once.

    Args:
        root: the folder of the package.
        package: its name.
        neutral: modules that carry results without shaping them, beyond those that say so.
        typed: whether classes count that only annotations name.

    Attributes:
        root: as given, resolved.
    """

    def __init__(self, root: Path, package: str = "daar", *, neutral: Iterable[str] = (), typed: bool = True) -> None:
        self.root = Path(root).resolve()
        self._package, self._typed = package, typed
        self._neutral = set(neutral)
        self._is_said_neutral: dict[Path, bool] = {}
        self._modules: dict[Path, Module] = {}
        self._places: dict[tuple[Path, str], Path | None] = {}
        self._canonical: dict[Reference, Canonical] = {}
        self._hashes: dict[tuple[tuple[str, ...], tuple[Path, ...]], str] = {}

    def code_hash(self, entries: Iterable[str], files: Iterable[Path] = ()) -> str:
        """Of the definitions that entries reach, and of further files: 12 hexadecimal digits.

        Args:
            entries: `module:name`, or `PATH.py:name` of a method that is imported by its path, or `module:*` for all
                of a module's definitions, whose names count then. A module named here is not neutral.
            files: of YAML and JSON the parsed content counts, of others every byte; neither names nor order do.

        Raises:
            ValueError: a module or name is unknown, or a file is damaged.
        """
        key = (tuple(entries), tuple(files))
        if key not in self._hashes:
            self._hashes[key] = self._code_hash(*key)
        return self._hashes[key]

    def _code_hash(self, entries: tuple[str, ...], files: tuple[Path, ...]) -> str:
        roots = [self._entry(entry) for entry in entries]
        index = {one: str(number) for number, one in enumerate(self._reached(roots))}
        lines = [" ".join(index[root] for root in roots)]
        for one in index:
            form = self._form(one)
            lines.append(" ".join([form.digest, *(index.get(other, f"~{other.name}") for other in form.references)]))
        lines += sorted(_content(Path(file)) for file in files)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]

    def definitions(self, entries: Iterable[str]) -> list[str]:
        """The definitions that entries reach, as `module:name`, in the order of discovery."""
        return [f"{self._title(one.file)}:{one.name}" for one in self._reached([self._entry(e) for e in entries])]

    def _reached(self, roots: list[Reference]) -> list[Reference]:
        """Depth first, then what annotations add; what is mentioned of neutral modules is left out."""
        found: dict[Reference, None] = {}
        named = {root.file for root in roots}
        added, before = roots, 0
        while added:
            self._descend(added, found, named)
            # last, lest an annotation of what is found anyway change the order
            added = self._classes(list(found)[before:], named) if self._typed else []
            before = len(found)
        return list(found)

    def _descend(self, roots: list[Reference], found: dict[Reference, None], named: set[Path]) -> None:
        waiting = roots[::-1]
        while waiting:
            one = waiting.pop()
            if one not in found and not self._is_neutral(one.file, named):
                found[one] = None
                waiting.extend(reversed(self._form(one).references))

    def _classes(self, definitions: Iterable[Reference], named: set[Path]) -> list[Reference]:
        """The classes that annotations in definitions name, directly or by an alias such as `A | B`."""
        classes, seen = [], set()
        waiting = [one for definition in definitions for one in self._form(definition).types][::-1]
        while waiting:
            one = waiting.pop()
            if one in seen or self._is_neutral(one.file, named):
                continue
            seen.add(one)
            statements = self._module(one.file).definitions.get(one.name, [])
            if any(isinstance(statement, ast.ClassDef) for statement in statements):
                classes.append(one)
            elif all(isinstance(statement, ast.Assign | ast.AnnAssign) for statement in statements):
                waiting.extend(reversed(self._form(one).references))
        return classes

    def _entry(self, entry: str) -> Reference:
        where, _, name = entry.rpartition(":")
        file = Path(where).resolve() if where.endswith(".py") else self._find(where)
        if file is None or not file.is_file():
            raise ValueError(f"expected `module:name` or `PATH.py:name` of a module that exists, got {entry!r}")
        if name == _ALL:
            return Reference(file, _ALL)
        what, rest = self._follow(file, (name,))
        if not isinstance(what, Reference) or rest or what.name == _ALL:
            known = ", ".join(self._module(file).definitions)
            raise ValueError(f"expected a definition of {where} ({known}) or `*`, got {entry!r}")
        return what

    # Definitions

    def _form(self, one: Reference) -> Canonical:
        if one not in self._canonical:
            self._canonical[one] = self._canonical_form(one)
        return self._canonical[one]

    def _canonical_form(self, one: Reference) -> Canonical:
        module = self._module(one.file)
        if one.name == _ALL:
            names = sorted(module.definitions.keys() - {"__all__", MARKER})
            return Canonical(" ".join(names), tuple(Reference(one.file, name) for name in names))
        if one.name == _AT_IMPORT:
            return canonical(module.at_import, _Names(self, one.file))
        form = canonical(module.definitions[one.name], _Names(self, one.file))
        after = (Reference(one.file, _AT_IMPORT),) if module.at_import else ()
        return form._replace(references=form.references + after)

    def _is_neutral(self, file: Path, named: set[Path]) -> bool:
        if file not in self._is_said_neutral:
            marked = file.is_dir() or MARKER in self._module(file).definitions
            self._is_said_neutral[file] = marked or self._title(file) in self._neutral
        return self._is_said_neutral[file] and file not in named

    # Modules

    def _module(self, file: Path) -> Module:
        if file not in self._modules:
            self._modules[file] = Module(file)
        return self._modules[file]

    def _title(self, file: Path) -> str:
        """The dotted name of one of the package's modules; of others the path."""
        if not file.is_relative_to(self.root / self._package):
            return str(file)
        place = file.parent if file.name == "__init__.py" else file.with_suffix("")
        return ".".join(place.relative_to(self.root).parts)

    def _find(self, dotted: str) -> Path | None:
        """The file, or folder without `__init__.py`, of a module of the package."""
        place: Path | None = self.root
        first, *others = dotted.split(".")
        for part in [first, *others] if first == self._package else [""]:
            place = None if place is None else self._inside(place, part)
        return place

    def _inside(self, place: Path, name: str) -> Path | None:
        """The module or folder of that name within a package or folder."""
        if (place, name) not in self._places:
            folder = place.parent if place.name == "__init__.py" else place
            options = (folder / name / "__init__.py", folder / f"{name}.py")
            found = next((file for file in options if file.is_file()), folder / name)
            self._places[place, name] = found if name and found.exists() else None
        return self._places[place, name]

    # Names

    def _follow(self, place: Path, path: tuple[str, ...], trail: frozenset[tuple[Path, str]] = frozenset()) -> Meaning:
        """What a dotted name means within a module, through imports and into submodules."""
        if not path:
            return Meaning(Reference(place, _ALL))
        name, rest = path[0], path[1:]
        module = self._module(place) if place.is_file() else None
        if module is not None and name in module.definitions:
            return Meaning(Reference(place, name), rest)
        # `from . import b` in `__init__.py` binds b to what it would be without
        if module is not None and name in module.imports and (place, name) not in trail:
            target = module.imports[name]
            return self.of_import(place, target.level, (*target.path, *rest), trail | {(place, name)})
        inner = self._inside(place, name)
        if inner is not None:
            return self._follow(inner, rest, trail)
        return self._unknown(place, path, module)

    def _unknown(self, place: Path, path: tuple[str, ...], module: Module | None) -> Meaning:
        if path[0].startswith("__"):  # __file__ and the like
            return Meaning("module." + ".".join(path))
        if module is None:
            return Meaning("missing." + ".".join(path))
        if "__getattr__" in module.definitions:
            return Meaning(Reference(place, "__getattr__"), path)
        return Meaning(Reference(place, _ALL), path)

    def of_global(self, place: Path, path: tuple[str, ...]) -> Meaning:
        """What a dotted name means whose first part is global in a module, built in or unknown."""
        module = self._module(place)
        if path[0] in module.definitions or path[0] in module.imports:
            return self._follow(place, path)
        return Meaning(".".join(path if path[0] == "builtins" else ("builtins", *path)))

    def of_import(
        self, place: Path, level: int, path: tuple[str, ...], trail: frozenset[tuple[Path, str]] = frozenset()
    ) -> Meaning:
        """What an import in a module names."""
        if level:
            folder = place.parents[level - 1]
            package = folder / "__init__.py"
            return self._follow(package if package.is_file() else folder, path, trail)
        if path[0] != self._package:
            return Meaning(".".join(path))
        top = self._find(self._package)
        return Meaning("missing." + ".".join(path)) if top is None else self._follow(top, path[1:], trail)

    def of_text(self, text: str) -> Reference | None:
        """The module whose name a string is; the package's own name is too common a word."""
        file = self._find(text) if text.startswith(self._package + ".") else None
        return None if file is None else Reference(file, _ALL)


class _Names:
    """What the names of one module stand for."""

    def __init__(self, sources: Sources, file: Path) -> None:
        self._sources, self._file = sources, file

    def of_global(self, path: tuple[str, ...]) -> Meaning:
        return self._sources.of_global(self._file, path)

    def of_import(self, level: int, path: tuple[str, ...]) -> Meaning:
        return self._sources.of_import(self._file, level, path)

    def of_text(self, text: str) -> Reference | None:
        return self._sources.of_text(text)


def _content(file: Path) -> str:
    """A digest of a file."""
    data = file.read_bytes()
    if file.suffix not in (".json", ".yaml", ".yml"):
        return hashlib.sha256(data).hexdigest()
    if file.suffix == ".json":
        content = json.loads(data)
    else:
        import yaml  # only here: the rest needs the standard library alone

        try:
            content = yaml.safe_load(data)
        except yaml.YAMLError as error:
            raise ValueError(f"expected YAML in {file}, got: {error}") from error
    return hashlib.sha256(ascii(content).encode()).hexdigest()
