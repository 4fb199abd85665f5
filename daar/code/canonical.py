"""The canonical form of a definition: what it does, without what it is called, where it lies and what only people read.

Left out: comments, docstrings, annotations, imports, `if TYPE_CHECKING:`, the message of `assert` and the arguments of
what is raised, `print(...)`, `pass` and bare constants; `typing.cast(T, x)` is x. Local variables are numbered by first
mention; parameters, attributes, keywords and members of classes keep their names, since code elsewhere may use those.
What annotations name is noted apart: an argument's methods are run though no code names its class.
"""

import ast
import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from daar.code.scopes import (
    Bindings,
    Comprehension,
    Function,
    Scope,
    imported,
    is_type_checking,
    of_comprehension,
    of_function,
)

# of the fields of ast's nodes those that change no result, or that not every version of Python has
_LEFT_OUT = {"ctx", "kind", "type_comment", "type_params"}
_BLOCKS = {"body", "orelse", "finalbody"}
_NAMES = {"name", "rest"}  # of a function, a class, an exception, a pattern: bound in the scope where it stands
# dataclasses treat a field annotated by one of these otherwise than all others
_FIELD_KINDS = {"ClassVar", "InitVar", "KW_ONLY"}


class Reference(NamedTuple):
    """A top-level definition: the file of its module and its name there."""

    file: Path
    name: str


class Meaning(NamedTuple):
    """What a dotted name stands for: a definition of ours, or the full name of what is not ours; and attributes of it.

    Attributes:
        what: `torch.nn.Module`, say, whose attributes are part of the name.
        rest: the attributes.
    """

    what: Reference | str
    rest: tuple[str, ...] = ()


class Resolver(Protocol):
    """What the names of one module stand for."""

    def of_global(self, path: tuple[str, ...]) -> Meaning:
        """Of a dotted name whose first part is global, built in or unknown."""

    def of_import(self, level: int, path: tuple[str, ...]) -> Meaning:
        """Of what an import names."""

    def of_text(self, text: str) -> Reference | None:
        """Of a string that is a module's name, that module."""


class Canonical(NamedTuple):
    """A definition in canonical form: a digest of its text, and the definitions that it mentions, in order.

    Attributes:
        digest: of the text.
        references: those that the text mentions.
        types: those that annotations alone mention.
    """

    digest: str
    references: tuple[Reference, ...]
    types: tuple[Reference, ...] = ()


def canonical(statements: Iterable[ast.stmt], resolver: Resolver) -> Canonical:
    """The canonical form of the top-level statements that make a definition."""
    writer = _Writer(resolver)
    for statement in statements:
        writer.statement(statement)
    text = "".join(writer.parts)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return Canonical(digest, tuple(writer.references), tuple(writer.types))


def _fields(node: ast.AST) -> list[str]:
    return [field for field in node._fields if field not in _LEFT_OUT]


class _Writer:
    """Writes nodes as text; a reference leaves `#` there, and what is referred to goes into a list of its own."""

    def __init__(self, resolver: Resolver) -> None:
        self.parts: list[str] = []
        self.references: list[Reference] = []
        self.types: list[Reference] = []
        self._resolver = resolver
        self._scope = Scope("module", Bindings(()))
        self._numbers: dict[tuple[Scope, str], int] = {}
        self._special: dict[type[ast.AST], Any] = {
            ast.Name: self._dotted,
            ast.Attribute: self._dotted,
            ast.Constant: self._constant,
            ast.JoinedStr: self._joined,
            ast.Call: self._call,
            ast.Raise: self._raise,
            ast.Assert: self._assert,
            ast.AnnAssign: self._annotated,
            ast.Import: self._import,
            ast.ImportFrom: self._import,
            ast.ClassDef: self._class,
            **dict.fromkeys((ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda), self._function),
            **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), self._comprehension),
        }

    def statement(self, node: ast.stmt) -> None:
        """Write a statement, unless it is of those that change no result."""
        if is_type_checking(node):
            for other in getattr(node, "orelse", ()):
                self.statement(other)
        elif not self._is_idle(node):
            self._node(node)

    def _is_idle(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.AnnAssign):
            return node.value is None and self._scope.kind != "class"
        if not isinstance(node, ast.Expr):
            return isinstance(node, ast.Pass | ast.Global | ast.Nonlocal)
        value = node.value
        return isinstance(value, ast.Constant) or (isinstance(value, ast.Call) and self._is_message(value))

    def _is_message(self, call: ast.Call) -> bool:
        """Whether it only prints, to the terminal, what costs no call of anything else."""
        if self._foreign(call.func) != "builtins.print" or any(keyword.arg == "file" for keyword in call.keywords):
            return False
        inner = [node for argument in call.args for node in ast.walk(argument)]
        return not any(isinstance(node, ast.Call | ast.NamedExpr | ast.Await) for node in inner)

    def _node(self, node: ast.AST) -> None:
        special = self._special.get(type(node))
        if special is not None:
            special(node)
            return
        self.parts.append(type(node).__name__ + "(")
        for field in _fields(node):
            self._field(field, getattr(node, field, None))
        self.parts.append(")")

    def _field(self, field: str, value: Any) -> None:
        """`field=value,` unless there is nothing in it."""
        if value is None or value == []:
            return
        start = len(self.parts)
        self.parts.append(field + "=")
        if field in _BLOCKS and isinstance(value, list):
            for statement in value:
                self.statement(statement)
            if len(self.parts) == start + 1:  # all of it was idle
                del self.parts[start:]
                return
        elif field in _NAMES and isinstance(value, str):
            self._name(value, ())
        else:
            self._value(value)
        self.parts.append(",")

    def _value(self, value: Any) -> None:
        if isinstance(value, ast.AST):
            self._node(value)
        elif isinstance(value, list):
            self.parts.append("[")
            for item in value:
                self._value(item)
                self.parts.append(",")
            self.parts.append("]")
        else:
            self.parts.append(ascii(value))  # not repr, which goes by the Unicode of this version of Python

    def _constant(self, node: ast.Constant) -> None:
        module = self._resolver.of_text(node.value) if isinstance(node.value, str) else None
        if module is None:
            self.parts.append(f"{type(node.value).__name__}:{node.value!a}")
        else:  # what imports it by that name depends on all of it
            self._put(Meaning(module))

    # Names

    def _dotted(self, node: ast.expr) -> None:
        base, attributes = _chain(node)
        if isinstance(base, ast.Name):
            self._name(base.id, attributes, reads=isinstance(base.ctx, ast.Load))
        else:
            self._node(base)
            self.parts.extend(f".{attribute}" for attribute in attributes)

    def _name(self, name: str, attributes: tuple[str, ...], *, reads: bool = False) -> None:
        meaning = self._meaning(name, attributes)
        if meaning is not None:
            self._put(meaning)
            return
        scope = self._scope.find(name)
        if scope.kind == "class":
            self.parts.append(f"^{name}")
            if reads:  # before the class binds it, it is what it is around the class
                with self._within(scope.outer or scope):
                    self._name(name, ())
        elif name in scope.parameters:
            self.parts.append(f"!{name}")
        else:
            self.parts.append(f"${self._numbers.setdefault((scope, name), len(self._numbers))}")
        self.parts.extend(f".{attribute}" for attribute in attributes)

    def _meaning(self, name: str, attributes: tuple[str, ...]) -> Meaning | None:
        """What a name stands for that is no variable of a function or class."""
        scope = self._scope.find(name)
        if scope.kind == "module":
            return self._resolver.of_global((name, *attributes))
        target = scope.alias(name)
        return None if target is None else self._resolver.of_import(target.level, (*target.path, *attributes))

    def _foreign(self, node: ast.expr) -> str | None:
        """The full name of what is not ours; None of all else."""
        base, attributes = _chain(node)
        meaning = self._meaning(base.id, attributes) if isinstance(base, ast.Name) else None
        return meaning.what if meaning is not None and isinstance(meaning.what, str) else None

    def _put(self, meaning: Meaning) -> None:
        if isinstance(meaning.what, Reference):
            self.parts.append("#")
            self.references.append(meaning.what)
        else:
            self.parts.append(f"<{meaning.what}>")
        self.parts.extend(f".{attribute}" for attribute in meaning.rest)

    def _note_types(self, annotation: ast.expr | None) -> None:
        """Note our classes that an annotation names, be it within a string."""
        waiting: list[ast.AST] = [] if annotation is None else [annotation]
        while waiting:
            node = waiting.pop(0)
            base, attributes = _chain(node) if isinstance(node, ast.expr) else (node, ())
            if isinstance(base, ast.Name):
                meaning = self._meaning(base.id, attributes)
                if meaning is not None and isinstance(meaning.what, Reference):
                    self.types.append(meaning.what)
            elif isinstance(base, ast.Constant) and isinstance(base.value, str):
                with contextlib.suppress(SyntaxError):  # of Literal, whose strings are no code
                    waiting.append(ast.parse(base.value, mode="eval").body)
            else:
                waiting.extend(ast.iter_child_nodes(base))

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        """Nothing, but for a name that something else binds too: there the import is an assignment."""
        for name, target in imported(node):
            meaning = self._resolver.of_import(target.level, target.path)
            if self._meaning(name, ()) != meaning:
                self.parts.append("Import(")
                self._name(name, ())
                self._put(meaning)
                self.parts.append(")")

    # Scopes

    @contextlib.contextmanager
    def _within(self, scope: Scope) -> Iterator[None]:
        before, self._scope = self._scope, scope
        try:
            yield
        finally:
            self._scope = before

    def _function(self, node: Function) -> None:
        self.parts.append(type(node).__name__ + "(")
        for field in ("decorator_list", "name"):
            self._field(field, getattr(node, field, None))
        self._note_types(getattr(node, "returns", None))
        self._arguments(node.args)
        with self._within(of_function(node, self._scope)):
            self._field("body", node.body)
        self.parts.append(")")

    def _arguments(self, node: ast.arguments) -> None:
        for argument in ast.iter_child_nodes(node):
            self._note_types(getattr(argument, "annotation", None))
        for field in ("posonlyargs", "args", "kwonlyargs"):
            self._field(field, [argument.arg for argument in getattr(node, field)])
        for field in ("vararg", "kwarg"):
            self._field(field, getattr(getattr(node, field), "arg", None))
        self._field("defaults", node.defaults)
        self._field("kw_defaults", node.kw_defaults)

    def _class(self, node: ast.ClassDef) -> None:
        self.parts.append("ClassDef(")
        for field in ("decorator_list", "name", "bases", "keywords"):
            self._field(field, getattr(node, field))
        with self._within(Scope("class", Bindings(node.body), self._scope)):
            self._field("body", node.body)
        self.parts.append(")")

    def _comprehension(self, node: Comprehension) -> None:
        self.parts.append(type(node).__name__ + "(")
        self._field("first", node.generators[0].iter)  # alone evaluated outside
        with self._within(of_comprehension(node, self._scope)):
            for field in ("elt", "key", "value"):
                self._field(field, getattr(node, field, None))
            for index, generator in enumerate(node.generators):
                for field in ("target", "iter", "ifs", "is_async"):
                    self._field(field, None if field == "iter" and not index else getattr(generator, field))
        self.parts.append(")")

    # What is shortened

    def _joined(self, node: ast.JoinedStr) -> None:
        """An f-string; Python 3.12 cuts its text into constants elsewhere than 3.11."""
        self.parts.append("JoinedStr[")
        for text, part in _merged(node):
            self.parts.append(ascii(text))
            if part is not None:
                self._node(part)
        self.parts.append("]")

    def _call(self, node: ast.Call) -> None:
        if len(node.args) == 2 and self._foreign(node.func) == "typing.cast":
            self._node(node.args[1])
            return
        self.parts.append("Call(")
        for field in ("func", "args", "keywords"):
            self._field(field, getattr(node, field))
        self.parts.append(")")

    def _raise(self, node: ast.Raise) -> None:
        self.parts.append("Raise(")
        self._field("exc", node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
        self.parts.append(")")

    def _assert(self, node: ast.Assert) -> None:
        self.parts.append("Assert(")
        self._node(node.test)
        self.parts.append(")")

    def _annotated(self, node: ast.AnnAssign) -> None:
        self._note_types(node.annotation)
        if self._scope.kind != "class" and node.value is not None:
            self._node(ast.Assign(targets=[node.target], value=node.value))
            return
        # a dataclass makes a field of it, which it does not of a plain assignment
        self.parts.append(f"Field({_field_kind(node.annotation)},")
        self._node(node.target)
        self._field("value", node.value)
        self.parts.append(")")


def _chain(node: ast.expr) -> tuple[ast.expr, tuple[str, ...]]:
    """`a.b.c` as a and ("b", "c")."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return node, tuple(reversed(attributes))


def _merged(node: ast.JoinedStr) -> Iterator[tuple[str, ast.expr | None]]:
    """The text before each replacement field, and the field; the text after the last, if there is any, with None."""
    text = ""
    for part in _flat(node.values):
        if isinstance(part, ast.Constant):
            text += str(part.value)
        else:
            yield text, part
            text = ""
    if text:
        yield text, None


def _flat(parts: Sequence[ast.expr]) -> Iterator[ast.expr]:
    for part in parts:
        if isinstance(part, ast.JoinedStr):
            yield from _flat(part.values)
        else:
            yield part


def _field_kind(annotation: ast.expr) -> str:
    """Which of the special kinds a field's annotation says it is, or nothing."""
    if isinstance(annotation, ast.Constant):
        text = str(annotation.value)
    else:
        base, attributes = _chain(annotation.value if isinstance(annotation, ast.Subscript) else annotation)
        text = attributes[-1] if attributes else getattr(base, "id", "")
    name = text.partition("[")[0].rpartition(".")[2]
    return name if name in _FIELD_KINDS else ""
