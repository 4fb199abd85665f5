"""The logger plugin `daar` of Snakemake: shows a run's progress in place of its log, which goes to its file as ever.

Snakemake imports it by this name at every start, whether it is asked for or not. So nothing of daar may be imported
here before it is used: a Snakefile of another checkout brings its own. What it shows is made by daar/progress/.
"""

import logging
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

if TYPE_CHECKING:
    from daar.progress.state import Notice

NAME = "daar"
# the module that Snakemake looks for; its own logger; the option
MODULE = f"snakemake_logger_plugin_{NAME}"
LOGGER = "snakemake.logging"
QUIET = f"--logger-{NAME}-quiet"
_EVERY_SECONDS = 0.5
# reading the logs of many jobs on a slow disk may take this share of the time
_READING = 0.05
# after which a log without a foot says that jobs are still at work
_SILENT_SECONDS = 900.0


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Options of the plugin: `--logger-daar-quiet`."""

    quiet: bool = field(default=False, metadata={"help": "Say only what failed."})


class LogHandler(LogHandlerBase):
    """Gets all records of Snakemake's log, in a thread of its own.

    A dry run, and one that is to print commands or what Snakemake thinks, has Snakemake's own output.
    """

    def __post_init__(self) -> None:
        """Look where the output goes; nothing is written yet."""
        given = self.common_settings
        self._aside = given.dryrun or given.verbose or given.debug_dag or given.printshellcmds
        if self._aside:
            return
        from daar.progress.state import Run
        from daar.progress.terminal import Streams, Terminal

        self._quiet = isinstance(self.settings, LogHandlerSettings) and self.settings.quiet
        self._run, self._streams = Run(), Streams()
        self._terminal = Terminal(self._streams.stderr, colours=not given.nocolor)
        self._said, self._look_again, self._ends = time.time(), 0.0, threading.Event()
        self._clock = threading.Thread(target=self._go_on, daemon=True)
        logging.getLogger(LOGGER).addFilter(self._at_once)

    def emit(self, record: logging.LogRecord) -> None:
        """Say what is news, and show what is at work."""
        if self._aside:
            return
        try:
            for notice in self._run.note(record):
                self._say(notice)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Say how it ended; the terminal is as before."""
        if not self._aside and not self._ends.is_set():
            from daar.progress import screen

            self._ends.set()
            logging.getLogger(LOGGER).removeFilter(self._at_once)
            self._terminal.show([])
            if last := screen.end(self._run, time.time()):
                self._say(last)
            self._streams.restore()
        super().close()

    def _at_once(self, record: logging.LogRecord) -> bool:
        """Have jobs print into a file before the first, and read the log of one that failed before it is tried again.

        Called at each record in the thread that logs it; `emit` were too late.
        """
        from daar.progress.state import look_at_once

        look_at_once(record)
        if getattr(record, "event", None) == LogEvent.RUN_INFO:
            logger = logging.getLogger(LOGGER)
            log = next((each.baseFilename for each in logger.handlers if isinstance(each, logging.FileHandler)), None)
            self._streams.redirect(Path(log).with_suffix(".jobs.log") if log else Path(os.devnull), self._terminal)
            self._clock.start()
        return True

    def _go_on(self) -> None:
        while not self._ends.wait(_EVERY_SECONDS):
            with self.lock or threading.RLock():  # as in `emit`
                self._show(time.time())

    def _show(self, now: float) -> None:
        from daar.progress import screen
        from daar.progress.state import Notice

        if self._quiet or self._ends.is_set() or not self._run.started:
            return
        if now > self._look_again:
            for job in self._run.running.values():
                job.look()
            self._look_again = now + (time.time() - now) / _READING
        if self._terminal.live:
            columns, lines = self._terminal.size
            self._terminal.show(screen.foot(self._run, now, columns, lines, ascii_only=self._terminal.ascii_only))
        elif now - self._said > _SILENT_SECONDS:
            self._say(Notice("news", screen.still(self._run, now)))

    def _say(self, notice: "Notice") -> None:
        from daar.progress import screen

        if self._quiet and notice.kind == "news":
            return
        self._said = time.time()
        self._terminal.say(screen.event(notice, self._run, self._said))

    @property
    def writes_to_stream(self) -> bool:
        """In place of Snakemake's own lines, but where those are wanted."""
        return not self._aside

    @property
    def writes_to_file(self) -> bool:
        """No: Snakemake's own log does."""
        return False

    @property
    def has_filter(self) -> bool:
        """All records are wanted."""
        return True

    @property
    def has_formatter(self) -> bool:
        """Records are no lines here."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """No."""
        return False
