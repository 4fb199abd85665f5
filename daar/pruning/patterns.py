"""Glob patterns for names of modules: `layer3.*`, `*.conv1`. Neither torch nor numpy."""

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from daar.errors import InputError

_WILDCARDS = frozenset("*?[]")


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern names a module, or a module around it: `layer3` and `layer?` name `layer3.0.conv1` too."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:length]), pattern) for length in range(1, len(parts) + 1))


def specificity(pattern: str) -> int:
    """How much a pattern says: its characters that are no wildcards."""
    return sum(character not in _WILDCARDS for character in pattern)


def nothing_matches(argument: str, pattern: str, names: Iterable[str], what: str = "module") -> InputError:
    """The error for a pattern that names nothing that it could mean; says what is like it.

    Args:
        argument: whose pattern it is, for the message ("exclude").
        pattern: as it came.
        names: those that there are.
        what: they are, "module" or narrower.
    """
    listed = list(names)
    close = difflib.get_close_matches(pattern, listed, n=3, cutoff=0.5)
    top = list(dict.fromkeys(name.partition(".")[0] for name in listed))[:8]
    hint = f"close to it: {', '.join(close)}" if close else f"at its top are: {', '.join(top) or 'none'}"
    return InputError(f"{argument} names {pattern!r}, but the network has no such {what}; {hint}.")
