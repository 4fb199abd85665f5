"""Python's rules of scope: which names a piece of code binds, and in which scope a name that it mentions is bound."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp

# nodes that bind a name which they hold as a string; None, where the pattern or handler has none, binds nothing
_NAMED = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
    *(ast.ExceptHandler, ast.MatchAs, ast.MatchStar),
)


class Target(NamedTuple):
    """What an import binds a name to; `from ..a import b` has level 2 and path ("a", "b")."""

    level: int
    path: tuple[str, ...]


def imported(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Target]]:
    """Each name that an import binds, and what to."""
    if isinstance(node, ast.ImportFrom):
        stem = tuple(node.module.split(".")) if node.module else ()
        for alias in node.names:
            yield alias.asname or alias.name, Target(node.level, (*stem, alias.name))
        return
    for alias in node.names:
        path = tuple(alias.name.split("."))
        # `import a.b` binds a
        yield (alias.asname, Target(0, path)) if alias.asname else (path[0], Target(0, path[:1]))


class Bindings:
    """What statements or expressions bind in the scope in which they stand.

    Attributes:
        names: bound in any way but by import.
        imports: name → all that imports bind it to.
        globals: declared so.
        nonlocals: declared so.
    """

    def __init__(self, nodes: Iterable[ast.AST]) -> None:
        self.names: set[str] = set()
        self.imports: dict[str, set[Target]] = {}
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()
        waiting = list(nodes)
        while waiting:
            node = waiting.pop()
            self._note(node)
            waiting.extend(_in_same_scope(node))

    def _note(self, node: ast.AST) -> None:
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                self.names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for name, target in imported(node):
                self.imports.setdefault(name, set()).add(target)
        elif isinstance(node, ast.Global):
            self.globals.update(node.names)
        elif isinstance(node, ast.Nonlocal):
            self.nonlocals.update(node.names)
        else:
            held = node.name if isinstance(node, _NAMED) else getattr(node, "rest", None)
            self.names.update([held] if isinstance(held, str) else [])

    def alias(self, name: str) -> Target | None:
        """What an import binds a name to, where nothing else binds it."""
        targets = self.imports.get(name, ())
        return next(iter(targets)) if len(targets) == 1 and name not in self.names else None


def _in_same_scope(node: ast.AST) -> Iterator[ast.AST]:
    """Children of a node that are run in its own scope, not in one which it opens; annotations bind nothing."""
    if isinstance(node, ast.Name | ast.Constant):
        return iter(())
    if isinstance(node, Function):
        values = [*node.args.defaults, *node.args.kw_defaults, *getattr(node, "decorator_list", ())]
        return iter([value for value in values if value is not None])
    if isinstance(node, ast.ClassDef):
        return iter([*node.decorator_list, *node.bases, *node.keywords])
    if isinstance(node, Comprehension):
        return _walruses(node)
    if isinstance(node, ast.AnnAssign):
        return iter([node.target, *([] if node.value is None else [node.value])])
    return ast.iter_child_nodes(node)


def _walruses(comprehension: ast.AST) -> Iterator[ast.AST]:
    """What `:=` binds within a comprehension, which is bound around it."""
    waiting = [comprehension]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.NamedExpr):
            yield node.target
        waiting.extend(child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.Lambda))


@dataclass(frozen=True, eq=False)  # a scope is equal to itself alone
class Scope:
    """One scope of the code.

    Attributes:
        kind: a comprehension's and a lambda's are functions too.
        bindings: of what stands in it.
        outer: the scope around it; None of a module.
        parameters: also bound.
    """

    kind: Literal["module", "class", "function"]
    bindings: Bindings
    outer: "Scope | None" = None
    parameters: frozenset[str] = frozenset()

    def find(self, name: str) -> "Scope":
        """The scope in which a name mentioned here is bound; the module's where it is global, built in or unknown."""
        scope = self
        while scope.outer is not None:
            visible = scope is self or scope.kind != "class"
            if visible and name in scope.bindings.globals:
                return scope._module()
            if visible and scope._binds(name):
                return scope
            scope = scope.outer
        return scope

    def _binds(self, name: str) -> bool:
        bound = name in self.parameters or name in self.bindings.names or name in self.bindings.imports
        return bound and name not in self.bindings.nonlocals

    def _module(self) -> "Scope":
        return self if self.outer is None else self.outer._module()

    def alias(self, name: str) -> Target | None:
        """What a name bound in this function stands for, if it is bound by an import alone."""
        local = self.kind == "function" and name not in self.parameters
        return self.bindings.alias(name) if local else None


def of_function(node: Function, outer: Scope) -> Scope:
    """The scope of a function's or a lambda's body."""
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    return Scope("function", Bindings(body), outer, frozenset(argument.arg for argument in every if argument))


def of_comprehension(node: Comprehension, outer: Scope) -> Scope:
    """The scope of a comprehension: only its targets are bound there."""
    return Scope("function", Bindings(generator.target for generator in node.generators), outer)


def is_type_checking(node: ast.AST) -> bool:
    """Whether it is `if TYPE_CHECKING:`, whose body is never run."""
    test = node.test if isinstance(node, ast.If) else None
    return "TYPE_CHECKING" in (getattr(test, "id", None), getattr(test, "attr", None))
