"""The loaded process of a run: forks itself for each job, and tells its client how the job ended."""

import atexit
import contextlib
import gc
import importlib
import os
import pkgutil
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

from daar.run import locks
from daar.run.forks import messages

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# commands → the folder whose modules they run, all of them loaded at the first such command; others load little
_REPORT, _STAGES = "daar.report", "daar.stages"
_LIGHT = ("reuse", "suite", "data", "list", "run", "init")


def serve(run: Callable[[], None]) -> None:
    """Serve until the run that has started this process is gone and its jobs have ended.

    Args:
        run: runs the command of `sys.argv`, in a fork.
    """
    listening, starter = (int(number) for number in os.environ.pop(messages.SERVES).split(","))
    for number in _SIGNALS:  # meant for jobs, which get them from their clients
        signal.signal(number, signal.SIG_IGN)
    _Server(socket.socket(fileno=listening), starter, run).serve()


class _Server:
    def __init__(self, listener: socket.socket, starter: int, run: Callable[[], None]) -> None:
        self._listener, self._starter, self._run = listener, starter, run
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(starter, selectors.EVENT_READ, self._end)
        # a job's process → its client's connection, and a descriptor that becomes readable when it ends
        self._jobs: dict[int, tuple[socket.socket, int]] = {}
        self._serves, self._process = True, os.getpid()

    def serve(self) -> None:
        while self._serves or self._jobs:
            for key, _ in self._selector.select():
                key.data()

    def _end(self) -> None:
        """The starter has closed its end of the pipe, or is gone."""
        self._selector.unregister(self._starter)
        self._selector.unregister(self._listener)
        self._listener.close()
        self._serves = False

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        streams: list[int] = []
        try:
            if not messages.is_own(connection):
                raise ConnectionError
            job, streams = messages.receive(connection, 3)
            if job is None or job["program"] != messages.program():
                raise ConnectionError
            _load(job["arguments"])
            # a signal that comes before the fork can handle it waits
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            process = os.fork()
        except OSError:  # the client runs its job itself
            connection.close()
        else:
            if not process:
                self._become(job, streams, connection)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._follow(process, connection)
        for descriptor in streams:
            os.close(descriptor)

    def _follow(self, process: int, connection: socket.socket) -> None:
        ends = os.pidfd_open(process)
        self._jobs[process] = connection, ends
        self._selector.register(ends, selectors.EVENT_READ, lambda: self._ended(process))
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._told(process))
        with contextlib.suppress(OSError):
            messages.send(connection, process)

    def _told(self, process: int) -> None:
        """A client passes a signal on, or was killed, and its job with it."""
        if process not in self._jobs:  # it has ended since
            return
        connection, _ = self._jobs[process]
        try:
            number, _ = messages.receive(connection)
        except OSError:
            number = None
        if number is None:
            self._selector.unregister(connection)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL if number is None else int(number))

    def _ended(self, process: int) -> None:
        connection, ends = self._jobs.pop(process)
        _, status = os.waitpid(process, 0)
        self._selector.unregister(ends)
        os.close(ends)
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection)
        with contextlib.suppress(OSError):
            messages.send(connection, os.waitstatus_to_exitcode(status))
        connection.close()

    def _become(self, job: dict[str, Any], streams: list[int], connection: socket.socket) -> NoReturn:
        """In the fork: be the job, and end with it."""
        os.setpgid(0, 0)
        self._selector.close()
        for other, ends in self._jobs.values():
            other.close()
            os.close(ends)
        connection.close()
        self._listener.close()
        os.close(self._starter)
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
            os.close(descriptor)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN if number in job["ignored"] else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.chdir(job["directory"])
        os.umask(job["mask"])
        os.environ.clear()
        os.environ.update(job["environment"])
        locks.depend_on(self._process)
        sys.argv[1:] = job["arguments"]
        _set_threads()
        _end(self._run)


def _end(run: Callable[[], None]) -> NoReturn:
    """Run the job and end as Python does, but leave modules as they are: taking them apart would copy all memory."""
    code = 0
    try:
        run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    shutdown = threading._shutdown  # type: ignore[attr-defined]  # as Python calls it: it waits for threads
    for finish in (shutdown, atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush):
        with contextlib.suppress(Exception):  # a reader that has closed its pipe
            finish()
    os._exit(code & 0xFF)


def _load(arguments: list[str]) -> None:
    """Load what the command needs, once; what cannot be loaded is told by the job."""
    command = arguments[0] if arguments else ""
    if command in _LIGHT:
        return
    with contextlib.suppress(Exception):
        _load_folder(_REPORT if command == "report" else _STAGES)


_loaded: set[str] = set()


def _load_folder(name: str) -> None:
    if name in _loaded:
        return
    _loaded.add(name)
    importlib.import_module("daar.cli.main")
    folder: ModuleType = importlib.import_module(name)
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{name}.{module.name}")
    # what is loaded stays: no fork is to touch, and so copy, all of it when it collects garbage
    gc.collect()
    gc.freeze()


def _set_threads() -> None:
    """As many threads as Snakemake has said; libraries that are loaded read the environment no more."""
    if (torch := sys.modules.get("torch")) and (count := os.environ.get("OMP_NUM_THREADS", "")).isdecimal():
        torch.set_num_threads(max(1, int(count)))
