"""Before the first job and after a failed one: what the workflow checks, and what it says to who started it.

Imported while the DAG is built: no torch.
"""

import atexit
import contextlib
import gc
import logging
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import snakemake_logger_plugin_daar as plugin
from daar.cluster import slurm, watching
from daar.errors import InputError
from daar.progress.state import AMBIGUOUS
from daar.run import locks, metadata, preflight, reuse
from daar.run.dag import Dag
from daar.suite import paths

_SNAKEMAKE = Path(".snakemake")
_LOGGER = logging.getLogger(plugin.LOGGER)

# `--max-jobs-per-timespan` as Snakemake has it where nobody gives it
_USUAL_RATE = (100, 1)


def begin(workflow: Any) -> None:
    """Before Snakemake looks at what was made, and at its lock: have its metadata with the results, and the lock alive.

    Args:
        workflow: Snakemake's own, at the start of the Snakefile.

    Raises:
        InputError: the working directory cannot be written to.
    """
    _look_for_garbage_rarely()
    if workflow.is_main_process:
        locks.end_with_starter()
        _ignore_damaged_metadata()
        try:
            metadata.keep_with_results(_SNAKEMAKE, Path(paths.PROVENANCE))
            # of a dry run, and of one that is refused
            atexit.register(metadata.leave_nothing, Path(paths.PROVENANCE).absolute())
            locks.claim(_SNAKEMAKE, _say)
            (_SNAKEMAKE / "locks").mkdir(exist_ok=True)  # Snakemake's own, which it makes with a traceback
        except OSError as error:
            raise InputError(
                f"{error.filename} cannot be written ({error.strerror}), which Snakemake needs even for a dry run. "
                "Start it in a folder that you may write to, or remove that file."
            ) from error
    elif workflow.remote_exec:
        locks.disclaim()


def _look_for_garbage_rarely() -> None:
    """Of the many objects that Snakemake makes of a DAG all stay: to look through them takes a third of its time."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)


def _ignore_damaged_metadata() -> None:
    with contextlib.suppress(ImportError):  # other versions have it elsewhere
        from snakemake.persistence.file import FilePersistence

        metadata.ignore_damaged(FilePersistence)


def fail(error: InputError) -> NoReturn:
    """End with one line and exit code 2, as the daar command does; nothing was run."""
    print(f"daar: error: {error}", file=sys.stderr)
    raise SystemExit(2)


def check(dag: Dag, *, on_cluster: bool) -> None:
    """Stop a run that cannot succeed, and say how many settings have a kept record.

    Raises:
        InputError: data, weights or a device are missing.
    """
    preflight.require_runnable(dag.suite, Path(paths.PACKS), elsewhere=on_cluster)
    kept = reuse.REFERENCE / dag.suite.name
    if dag.reused:
        _say(
            f"{len(dag.reused)} of {len(dag.settings)} settings have a record in {kept}, made from the same code and "
            "settings; it stands for them. --config reuse=false runs all here"
        )
    elif dag.suite.reuse and any(kept.rglob("record.json")):
        _say(
            f"0 of {len(dag.settings)} settings have a record in {kept} that was made from the same code and settings; "
            "all run here"
        )
    _leave_signals_to_snakemake()


def tell_policies(dag: Dag, workflow: Any) -> None:
    """Have the progress, if it is shown, say the policy of variants that have several.

    By a record of Snakemake's log, which the progress gets before that of any job; its level keeps it out of others.

    Args:
        dag: of the suite.
        workflow: Snakemake's own.
    """
    if plugin.NAME not in workflow.output_settings.log_handler_settings:
        return
    policies = Counter(name for name, _ in {(s.variant.name, s.policy) for s in dag.settings.values()})
    several = sorted(variant for variant, count in policies.items() if count > 1)
    text = f"variants with several policies: {', '.join(several) or 'none'}"
    given = {"name": _LOGGER.name, "levelno": logging.DEBUG, "levelname": "DEBUG", "msg": text, AMBIGUOUS: several}
    # not `_LOGGER.debug`: the logger itself may drop what is of that level
    _LOGGER.handle(logging.makeLogRecord(given))


def _leave_signals_to_snakemake() -> None:
    """Put the handlers back that `engine` replaced, if it started this run: jobs are to be stopped from now on."""
    for number, own in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        # started by its path, that module is the main one, which cannot be imported by its own name
        if signal.getsignal(number) is getattr(sys.modules["__main__"], "stop", own):
            signal.signal(number, own)


def start_at_any_rate(workflow: Any) -> None:
    """Drop Snakemake's limit of 100 jobs a second, unless another one was asked for: jobs of this machine need none.

    With it, each job that ends has Snakemake look at all jobs that are ready once a second more, until the end: after a
    hundred jobs this takes half a core.

    Args:
        workflow: Snakemake's own, when it is about to start the first job.
    """
    rate = getattr(workflow.scheduling_settings, "max_jobs_per_timespan", None)
    if rate is not None and (rate.max_jobs, rate.timespan) == _USUAL_RATE:
        workflow.scheduler.job_rate_limiter = None


def let_signals_end(workflow: Any) -> None:
    """Have a signal end the run also while Snakemake notes that a job has ended.

    Its handler of signals takes a lock that the thread it interrupts may hold already, and would wait for ever.

    Args:
        workflow: as of `start_at_any_rate`.
    """
    if hasattr(workflow.scheduler, "_lock"):
        workflow.scheduler._lock = threading.RLock()


def check_cluster(dag: Dag, workflow: Any, unmeasured: str | None) -> None:
    """Stop a run that its scheduler would never finish, or say what is uncertain, before anything is queued.

    Args:
        dag: of the suite.
        workflow: Snakemake's own, with its DAG built and its executor chosen.
        unmeasured: why the jobs' times follow from MACs, or None.

    Raises:
        InputError: as `daar.cluster.slurm` has it.
    """
    requests = submitted(workflow.dag)
    if not requests:
        return
    if unmeasured:
        _say(
            f"{unmeasured}; times and memory that jobs ask for follow from MACs. Better: on a node of the kind that "
            "they will have, daar suite check SUITE.yaml --cluster"
        )
    watching.keep_watching(workflow.executor_plugin.executor)
    if workflow.executor_plugin.name == "slurm":
        slurm.require_startable(requests, status_command=workflow.executor_settings.status_command)
        if untried := slurm.require_shared_folder(requests[0], Path(dag.results)):
            _say(untried)


def submitted(dag: Any) -> list[dict[str, Any]]:
    """Resources of the queue entries that a run will submit: groups, and jobs without a group.

    Args:
        dag: Snakemake's own.
    """
    entries = dict.fromkeys(dag.get_job_group(job) or job for job in dag.needrun_jobs())
    return [dict(entry.resources.items()) for entry in entries if not entry.is_local]


def tell_failures(workflow: Any, snakemake_logs: Iterable[str]) -> None:
    """Repeat the last line of every failed job where the user is looking, unless the progress has said each at once.

    Args:
        workflow: Snakemake's own.
        snakemake_logs: files that name the failed jobs' logs.
    """
    if plugin.NAME not in workflow.output_settings.log_handler_settings:
        print(*last_lines(snakemake_logs), sep="\n", file=sys.stderr)


def last_lines(snakemake_logs: Iterable[str]) -> list[str]:
    """The last line of the log of every job that failed, which says what to do.

    Args:
        snakemake_logs: files that name the failed jobs' logs.
    """
    text = "".join(_read(Path(file)) for file in snakemake_logs)
    # a job that was tried again is there several times
    logs = dict.fromkeys(re.findall(r"^    log: (\S+) \(check log", text, re.MULTILINE))
    last = {log: _read(Path(log)).splitlines()[-1:] for log in logs if Path(log).is_file()}
    return [f"{log}: {line}" for log, lines in last.items() for line in lines]


def _read(log: Path) -> str:
    """What a program of any language wrote, in whatever encoding."""
    return log.read_text(encoding="utf-8", errors="backslashreplace")


def _say(text: str) -> None:
    """Say it by Snakemake's logger, so that it is in its log too, and `--quiet` holds for it."""
    _LOGGER.info(f"daar: {text}")
