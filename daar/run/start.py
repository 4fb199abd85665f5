"""Start a suite by Snakemake, from any folder, with the Snakefile that comes with daar."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import snakemake_logger_plugin_daar as plugin
from daar.errors import unknown
from daar.run import locks
from daar.storage import documents
from daar.storage.bundled import PACKAGE, ROOT, SUITES

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# options of Snakemake that say how many jobs run at once, or where; `--cores` would contradict them
_SAY_HOW_MANY = ("--cores", "-c", "--jobs", "-j", "--profile", "--executor", "-e")


def find_suite(name: str) -> Path:
    """The file of a suite.

    Args:
        name: a path, or the name of a suite that comes with daar.

    Raises:
        InputError: there is neither; lists the suites that come with daar.
    """
    shipped = {path.stem: path for path in SUITES.glob("*.yaml")}
    if os.path.isfile(name):  # noqa: PTH113  # Path.is_file() raises for a name that is too long
        return Path(name)
    if name in shipped:
        return shipped[name]
    if os.path.lexists(name):
        return documents.require_file(Path(name), "a suite's file")
    hint = "Name one of them, or a file; `daar init DIR` writes one to start from."
    raise unknown("suite", name, list(shipped), hint)


def command(suite: Path, cores: int, options: Sequence[str] = (), *, quiet: bool = False) -> list[str]:
    """The command line of Snakemake, with the progress of daar/progress/ in place of its log.

    Args:
        suite: its file.
        cores: for Snakemake, unless its options say it themselves.
        options: Snakemake's own; with `--logger` among them, the progress is left to that one.
        quiet: whether only what failed is said.
    """
    # `-j8` and `--jobs=8` are as good as `-j 8`
    says_how_many = any(option.split("=")[0] in _SAY_HOW_MANY or option[:2] in ("-j", "-c", "-e") for option in options)
    has_logger = any(option.split("=")[0] == "--logger" for option in options)
    return [
        # -P: a file of the working directory, such as yaml.py, must not come before a package
        *(sys.executable, "-P", str(PACKAGE / "run" / "engine.py"), "--snakefile", str(ROOT / "Snakefile")),
        *(() if has_logger else ("--logger", plugin.NAME, *((plugin.QUIET,) if quiet else ()))),
        *(() if says_how_many else ("--cores", str(cores))),
        *options,
        *("--configfile", str(suite)),
    ]


def run(arguments: Sequence[str], folder: Path | None = None) -> int:
    """Run a command to its end, and pass signals on to it and to all that it started.

    It gets a process group of its own, so that Ctrl-C in a terminal reaches it once, through here.

    Args:
        arguments: the command line.
        folder: its working directory; this process's where absent.

    Returns:
        Its exit code; 130, 143 or 129 after a SIGINT, SIGTERM or SIGHUP.
    """
    started: list[subprocess.Popen[bytes]] = []
    received: list[int] = []

    def pass_on(number: int, _: FrameType | None = None) -> None:
        received.append(number)
        for process in started:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.killpg(process.pid, number)

    with _handled_by(pass_on):
        # its other end is only here: what reads this one sees when this process is gone, be it by kill -9
        theirs, ours = os.pipe()
        environment = {**os.environ, locks.STARTER: str(theirs)}
        if environment.get("PYTHONSAFEPATH") == "daar":  # ours: a method's own program may import what lies next to it
            del environment["PYTHONSAFEPATH"]
        # nothing is asked for, and a group that is not the terminal's would be stopped when it reads there
        started.append(
            subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, process_group=0, cwd=folder, env=environment, pass_fds=[theirs]
            )
        )
        os.close(theirs)
        if received:  # while it was started
            pass_on(received[0])
        code = started[0].wait()
        os.close(ours)
    if received:
        if code < 0:  # it had no handler yet, and said nothing
            print("daar: interrupted; the same command goes on from what was saved last.", file=sys.stderr)
        return 128 + received[0]
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Signals go to a handler, but for those that this process was told to ignore; put back in the end."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    watched = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in watched:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in watched.items():
            signal.signal(number, old)
