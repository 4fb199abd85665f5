"""The one exception that means: the input is wrong, and here is what to do about it; and how others are told."""

RESULT_NEUTRAL = "only words messages"


class InputError(Exception):
    """Bad input: a setting, a file or a value that the user can mend.

    The message is one line that says what was expected, what came and what to do. The
    command line prints it without a traceback and exits with code 2.
    """


def unknown(kind: str, name: str, known: list[str], hint: str = "") -> InputError:
    """The error for a name that is not in a registry; lists what is.

    Args:
        kind: what the name should be, for the message ("network").
        name: the name that came.
        known: every name that would have been right.
        hint: what else the user can do, a sentence.
    """
    choices = ", ".join(sorted(known)) or "none"
    shown = repr(name) if len(name) <= 100 else f"{name[:100]!r}…"
    return InputError(f"unknown {kind} {shown}; there are: {choices}. {hint}".rstrip())


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception of Python's, torch's or oneDNN's means that memory, the machine's or a GPU's, is used up."""
    signs = (
        "out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED", "bad_alloc",
        "could not create a primitive", "could not create a memory", "Cannot allocate memory",
        "failed to map segment",  # of a library that is imported
    )  # fmt: skip
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


def first_line(error: Exception) -> str:
    """What an exception says, to its first line's end and without a stop."""
    return (str(error).splitlines() or ["no memory left"])[0].rstrip(".")


def said(error: BaseException, longest: int = 200) -> str:
    """What an exception says, in one line and without a stop at its end; its type's name where it says nothing."""
    return " ".join(str(error).split())[:longest].rstrip(".") or type(error).__name__


def in_one_line(text: str, longest: int = 200) -> str:
    """Text of any origin as part of a message: what a terminal would obey is escaped, the middle of long text left out.

    Args:
        text: of a path, a file or a library.
        longest: characters that are kept.
    """
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= longest else f"{text[: longest // 2]} … {text[-longest // 2 :]}"
