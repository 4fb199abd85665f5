"""Finds the methods by their files: `daar/method` (as `daar`), `baselines/*` and every extra folder.

A folder whose name starts with `_` is none: `baselines/_template` is there to be copied. A folder with policy.py and no
rule is a policy without a method; planners.py lists those.
Listing is light: metadata is read from the source as literals, and a method's module is imported only to run it.
"""

import ast
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from daar.errors import InputError, in_one_line, said, unknown
from daar.methods import contract, signatures
from daar.methods.signatures import Allowed
from daar.storage import documents
from daar.storage.bundled import BASELINES, PACKAGE

RESULT_NEUTRAL = "finds methods; the file of the method itself counts"
# the module of a method's folder, and of a policy's without a method
METHOD, POLICY = "method.py", "policy.py"


@dataclass(frozen=True)
class Method:
    """A method's files and the metadata that can be had without importing it.

    Attributes:
        name: the folder's name, or `daar`.
        code: the module to import.
        rule: its Snakemake rule, absolute: Snakemake takes a relative path to start from the file that includes it.
        info: the keyword arguments of its INFO, as written.
        scores: the options of its score(), or None where a rule of its own brings the importance.
        plans: the options of its plan(), or None without a policy of its own.
        defaults: option → its default, where it has one that is a literal.
        explains: whether it has an explain(), for pictures of what its scores see.
        given: what its plan() is given beyond the target and reads: of macs, loss and shapes.
    """

    name: str
    code: Path
    rule: Path
    info: dict[str, Any]
    scores: dict[str, Allowed] | None
    plans: dict[str, Allowed] | None
    defaults: dict[str, Any]
    explains: bool = False
    given: frozenset[str] = frozenset()

    @property
    def policy(self) -> str:
        """The policy used with it by default; of a policy without a method its name."""
        return self.name if self.is_policy else str(self.info.get("policy", "uniform"))

    @property
    def is_policy(self) -> bool:
        """Whether it is a policy without a method: it has a plan() and no score()."""
        return self.code.name == POLICY

    @property
    def sources(self) -> list[Path]:
        """Its Python files, sorted: what its result depends on."""
        return sorted(self.code.parent.glob("*.py"))


def export_interpreter() -> None:
    """Have the jobs of a workflow use this interpreter and this checkout's package, wherever their results go.

    Raises:
        InputError: their folders cannot be named in an environment variable.
    """
    paths = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(PACKAGE.parent)}
    for name, first in paths.items():
        if os.pathsep in first:
            raise InputError(f"{first} has a {os.pathsep!r} in its path, which {name} cannot have. Move it elsewhere.")
        os.environ[name] = os.pathsep.join(filter(None, [first, os.environ.get(name)]))


def find(extra: Sequence[Path] = ()) -> dict[str, Method]:
    """All methods by name, sorted.

    Args:
        extra: further folders of method folders, as `baselines/` is one.

    Raises:
        InputError: two folders hold a method of one name, or a method's INFO cannot be read.
    """
    methods: dict[str, Method] = {}
    own = PACKAGE / "method"
    if (own / "rule.smk").exists():
        methods["daar"] = _read("daar", own / "__init__.py")
    for root in [BASELINES, *map(Path, extra)]:
        for folder in _folders(root):
            if folder.name in methods:
                raise InputError(
                    f"two methods are named {folder.name!r}: {methods[folder.name].code} and {folder}. Rename one."
                )
            methods[folder.name] = _read(folder.name, folder / METHOD)
    return dict(sorted(methods.items()))


def find_policies(extra: Sequence[Path] = ()) -> dict[str, Method]:
    """The policies without a method by name, sorted; `extra` as of `find`.

    Raises:
        InputError: two folders hold a policy of one name, or its INFO cannot be read.
    """
    policies: dict[str, Method] = {}
    for root in [BASELINES, *map(Path, extra)]:
        for folder in _folders(root, policies=True):
            if folder.name in policies:
                raise InputError(
                    f"two policies are named {folder.name!r}: {policies[folder.name].code} and {folder}. Rename one."
                )
            policies[folder.name] = _read(folder.name, folder / POLICY)
    return dict(sorted(policies.items()))


def read_folder(folder: Path) -> Method:
    """The method or policy in one folder, whatever its name begins with.

    Raises:
        InputError: it holds neither, its INFO cannot be read, or a policy has no plan() that is written by `def`.
    """
    folder = folder.resolve()
    for name, others in ((METHOD, ()), (POLICY, ("rule.smk",))):
        if (folder / name).exists() and not any((folder / other).exists() for other in others):
            found = _read(folder.name, folder / name)
            if found.is_policy and found.plans is None:
                raise InputError(_lacks(found.code, "plan"))
            return found
    raise InputError(
        f"{folder} should be the folder of a method, with {METHOD} and rule.smk, or of a policy, with {POLICY}; it has "
        "neither. Give another folder, or see docs/adding-a-method.md and docs/adding-a-policy.md."
    )


def _folders(root: Path, *, policies: bool = False) -> list[Path]:
    """The folders of methods, or of policies, in a folder, sorted; their names become parts of paths and of rules."""
    try:
        if not root.is_dir():
            what = "is no folder" if root.exists() else "does not exist"
            raise InputError(f"methods folder {root} {what}. Correct --methods-dir or methods_dirs in the suite.")
        listed = [folder for folder in sorted(root.iterdir()) if not folder.name.startswith("_")]
        folders = [f for f in listed if (_is_policy(f) if policies else (f / "rule.smk").exists())]
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"methods folder {str(root)[:200]!r} cannot be read: {reason}. Correct --methods-dir or methods_dirs in "
            "the suite."
        ) from error
    for folder in folders:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", folder.name):
            raise InputError(
                f"the folder of a method should have a name of letters, digits, _, - and ., 100 at most; got "
                f"{folder.name!r} in {root}. Rename it."
            )
    return folders


def _is_policy(folder: Path) -> bool:
    """Whether a folder is a policy without a method: a method may have a file of that name too."""
    return (folder / POLICY).exists() and not any((folder / other).exists() for other in (METHOD, "rule.smk"))


def get(name: str, extra: Sequence[Path] = ()) -> Method:
    """Look a method up; InputError lists those there are."""
    methods = find(extra)
    if name not in methods:
        raise unknown(
            "method",
            name,
            list(methods),
            "A method is a folder with method.py and rule.smk, in baselines/ or where --methods-dir says.",
        )
    return methods[name]


def load(method: Method) -> ModuleType:
    """Import a method's module by its path; its functions may use gradients, whoever calls them and in what mode.

    Raises:
        InputError: it fails to import, or lacks INFO or score.
    """
    what, function = ("policy", "plan") if method.is_policy else ("method", "score")
    module_name = f"daar_{what}_{method.name}"
    spec = importlib.util.spec_from_file_location(
        module_name, method.code, submodule_search_locations=[str(method.code.parent)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # so that a method of several files can import its own
    try:
        spec.loader.exec_module(module)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{what} {method.name!r} fails to import: {type(error).__name__}: {in_one_line(said(error))}. See "
            f"{method.code}."
        ) from error
    for needed in ("INFO", function):
        if not hasattr(module, needed):
            raise InputError(_lacks(method.code, needed))
    contract.enforce(module, method.name, method.policy)
    return module


def _lacks(code: Path, needed: str) -> str:
    what, function = ("policy", "plan") if code.name == POLICY else ("method", "score")
    return f"{code} defines no {needed}. A {what} has INFO and {function}(); see docs/adding-a-{what}.md."


def split_options(method: Method, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide a variant's options between the method's score() and its plan().

    Raises:
        InputError: neither takes an option, or not that value; lists what there is.
    """
    for_score, for_plan = method.scores or {}, method.plans or {}
    if method.scores is not None:  # a program of any language knows its options itself
        signatures.check(options, for_score | for_plan, method.name)
    return (
        {name: value for name, value in options.items() if name in for_score},
        {name: value for name, value in options.items() if name in for_plan},
    )


def score_options(score: Callable[..., Any], chosen: dict[str, Any]) -> dict[str, Any]:
    """All options of a score(): its defaults, but for those chosen."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(score).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty
    }
    return defaults | chosen


def takes_seed(function: Callable[..., Any]) -> bool:
    """Whether a score() draws random numbers and so wants the setting's seed."""
    return "seed" in inspect.signature(function).parameters


def _read(name: str, code: Path) -> Method:
    what, needed = ("policy", "plan") if code.name == POLICY else ("method", "score")
    try:
        tree = ast.parse(documents.read_text(code, f"the module of {what} {name!r}"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # ValueError: a NUL in it
        # the parser's stack and the machine's memory end alike
        overflow = "it is nested too deeply, or no memory is left" if isinstance(error, MemoryError) else ""
        reason = overflow or str(error) or type(error).__name__
        raise InputError(
            f"{what} {name!r}: {code} cannot be read: {reason}. It must define INFO and {needed}()."
        ) from error
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    options = {function: signatures.read(node) for function, node in functions.items()}
    defaults = {
        option: default
        for function in ("score", "plan")
        if function in functions
        for option, default in signatures.defaults(functions[function]).items()
    }
    info = _info(name, code, tree)
    return Method(
        name=name,
        code=code,
        rule=code.parent.resolve() / "rule.smk",
        info=info,
        scores=options.get("score") if what == "method" else None,
        plans=options.get("plan"),
        defaults=defaults,
        explains="explain" in functions,
        given=signatures.given(functions["plan"]) if "plan" in functions else frozenset(),
    )


def _info(name: str, code: Path, tree: ast.Module) -> dict[str, Any]:
    """The literal keyword arguments of `INFO = MethodInfo(...)`."""
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(t, ast.Name) and t.id == "INFO" for t in targets) and isinstance(node.value, ast.Call):  # type: ignore[attr-defined]
            try:
                info = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.value.keywords if keyword.arg}  # type: ignore[attr-defined]
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
                raise InputError(f"INFO in {code} must be written in literals, without calls or names.") from error
            if info.get("name") != name:
                raise InputError(
                    f"INFO.name in {code} is {info.get('name')!r}; it must be the folder's name, {name!r}."
                )
            return info
    kind, page = ("PolicyInfo", "policy") if code.name == POLICY else ("MethodInfo", "method")
    raise InputError(f"{code} defines no INFO = {kind}(...). See docs/adding-a-{page}.md.")
