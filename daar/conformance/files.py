"""Checks of a folder: its metadata, documentation, bibliography, rule and imports."""

import ast
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from daar.api import MethodInfo, PolicyInfo
from daar.conformance.subject import BreachError, breach
from daar.errors import said
from daar.methods import discovery, planners
from daar.methods.discovery import Method
from daar.storage import documents

_ALLOWED = {"torch", "numpy", *(sys.stdlib_module_names - {"importlib", "runpy"})}
_FIELDS = ("title", "author", "year")


def is_scorer(method: Method) -> bool:
    """Whether it has a score(), and no program of its own in its place."""
    if method.rule.is_file() and "use rule score as" not in _text(method.rule):
        return False
    return method.scores is not None


def metadata(method: Method) -> None:
    """INFO is complete and names what nothing else is named, and what the module has is what is written."""
    _require_own_name(method)
    kind = PolicyInfo if method.is_policy else MethodInfo
    try:
        info: Any = kind(**method.info)
    except (TypeError, ValueError) as error:
        breach(f"an INFO = {kind.__name__}(…) that can be made", said(error), "Correct INFO.")
    if (method.is_policy or is_scorer(method)) and info != discovery.load(method).INFO:
        breach("the INFO that is written", "another when imported", "Write INFO once, in literals.")
    uses = () if method.is_policy else info.uses
    for text in (info.name, info.title, info.citation, *uses, *info.deviations):
        if not isinstance(text, str) or not text.strip():
            breach("texts in INFO", repr(text), "Write what it stands for.")
    for name, value in (("uses", uses), ("deviations", info.deviations)):
        if not isinstance(value, tuple):
            breach(f"a tuple as INFO.{name}", repr(value), "One phrase needs a comma behind it.")
    if not method.is_policy and not info.control and not uses:
        breach("INFO.uses to name what scores depend on", "()", "Name weights, images or labels; or it is a control.")


def _require_own_name(method: Method) -> None:
    """No other folder has its name, and as a policy none of daar's own does."""
    others = planners.find() if method.is_policy else discovery.find()
    other = others.get(method.name)
    if (other is not None and other.code.resolve() != method.code.resolve()) or (
        method.is_policy and planners.is_taken(method.name)
    ):
        kind = "policy" if method.is_policy else "method"
        where = "one of daar's own" if other is None else other.code
        breach(
            f"a name that no other {kind} has", f"{method.name!r}, as {where} has", "Rename the folder and INFO.name."
        )


def documentation(method: Method) -> None:
    """The module and its functions say what they do."""
    module = discovery.load(method)
    functions = ["score"] if method.scores is not None else []
    functions += ["plan"] if method.plans is not None else []
    for name, held in [("the module", module), *((f"{name}()", getattr(module, name)) for name in functions)]:
        if not (held.__doc__ or "").strip():
            breach(f"a docstring of {name}", "none", "Say what it does, and the equation that it follows.")


def bibliography(method: Method) -> None:
    """The citation is an entry of references.bib, and each entry has a title, authors and a year."""
    file = method.code.parent / "references.bib"
    text = _text(file)
    keys = re.findall(r"^@\w+\{([^,\s]+),", text, re.MULTILINE)
    if method.info["citation"] not in keys:
        breach(f"the key {method.info['citation']!r} in {file.name}", keys, "Add the BibTeX entry, or correct INFO.")
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        breach(f"each key once in {file.name}", f"{twice[0]!r} twice", "Take one out.")
    for entry in re.split(r"^(?=@)", text, flags=re.MULTILINE)[1:]:
        for field in _FIELDS:
            if not re.search(rf"[{{,\s]{field}\s*=\s*(?:\{{[^}}]|\"[^\"]|\d)", entry, re.IGNORECASE):
                breach(f"{' and '.join(_FIELDS)} in every entry", f"no {field} in {entry[:40]!r}", "Add it.")


def rule(method: Method) -> None:
    """rule.smk makes the importance, or the plan, of the method's variants."""
    text = _text(method.rule)
    if is_scorer(method):
        line, call = f"use rule score as score_{method.name} with:", f'variants_of("{method.name}")'
        if not re.search(rf"^{re.escape(line)}$", text, re.MULTILINE) or call not in text:
            breach(f"{line!r} and {call} in rule.smk", "another rule", "Rename both in it, after the folder.")
    elif not re.search(r"^rule \w+:$", text, re.MULTILINE) or not re.search(
        r"importance\.safetensors|plan\.json", text
    ):
        breach(
            "rule.smk to inherit `use rule score as …`, or a rule that makes importance.safetensors or plan.json",
            "neither", "Copy baselines/_template/rule.smk.",
        )  # fmt: skip


def imports(method: Method) -> None:
    """Only daar.api, torch, numpy, the standard library and the folder's own files are imported."""
    kind = "policy" if method.is_policy else "method"
    own = "daar.method." if method.name == "daar" else f"daar_{kind}_{method.name}."
    for path in method.sources:
        if foreign := list(foreign_imports(ast.parse(_text(path)), own)):
            breach(
                "imports of daar.api, torch, numpy and the standard library alone", f"{foreign[0]} in {path.name}",
                "Ask for what is missing in daar.api, or copy it into a file of the folder.",
            )  # fmt: skip


def foreign_imports(tree: ast.AST, own: str) -> Iterable[str]:
    """Modules that a method must not import.

    Args:
        tree: of one of its files.
        own: beginning of the names of its own modules.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            names = [] if node.level == 1 else [f"{'.' * node.level}{node.module}"]
        elif isinstance(node, ast.ImportFrom):
            whole = str(node.module)
            names = [f"{whole}.{alias.name}" if whole == "daar" else whole for alias in node.names]
        elif isinstance(node, ast.Name) and node.id in {"__import__", "exec", "eval"}:
            names = [node.id]
        else:
            continue
        for name in names:
            if name.split(".")[0] not in _ALLOWED and name != "daar.api" and not f"{name}.".startswith(own):
                yield name


def _text(file: Path) -> str:
    if not file.is_file():
        raise BreachError(f"expected {file.name} in the folder; got none. Copy baselines/_template/{file.name}.")
    return documents.read_text(file, "a file of a method")
