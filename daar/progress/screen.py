"""The lines that are shown of a run: at the foot of a terminal while it is at work, and one for each event."""

from collections.abc import Sequence

from rich.text import Text

from daar.progress import left
from daar.progress.state import Job, Notice, Run, clock

_STYLES = {"news": "", "warning": "yellow", "failure": "red", "error": "red"}
# jobs that are shown at most, columns of the bar, and what a narrow terminal has no words for
_JOBS, _BAR, _NARROW = 12, 30, 80
_GAP = "  "
# seconds: that a run takes at least so long is nothing to say
_SOON = 60


def foot(run: Run, now: float, width: int, height: int, *, ascii_only: bool) -> list[Text]:
    """What is shown at the foot of a terminal.

    Args:
        run: so far.
        now: seconds since 1970.
        width: columns of the terminal; each line is shorter by one, for the cursor.
        height: its lines.
        ascii_only: whether it shows no other characters.

    Returns:
        A line for the whole run, and one for each job at work, as far as there is room.
    """
    jobs = sorted(run.running.values(), key=lambda job: (job.since, job.number))
    shown = jobs[: max(0, min(_JOBS, height - 4))]
    lines = [_whole(run, now, width, ascii_only=ascii_only), *_at_work(run, shown, now, width, ascii_only=ascii_only)]
    if len(jobs) > len(shown):
        lines.append(Text(f"{_GAP}and {len(jobs) - len(shown)} more at work", style="dim"))
    for line in lines:
        line.truncate(max(1, width - 1), overflow="crop" if ascii_only else "ellipsis")
    return lines


def event(notice: Notice, run: Run, now: float) -> Text:
    """What is said once, with how far the run is; what is about all of it, or in Snakemake's form, stands alone.

    Args:
        notice: what.
        run: so far.
        now: seconds since 1970.
    """
    text = Text(notice.text, style=_STYLES[notice.kind])
    if notice.kind == "error" or notice.text.startswith("daar: ") or not run.total:
        return text
    return Text(f"[{run.done}/{run.total}  {clock(_elapsed(run, now))}]  ").append_text(text)


def still(run: Run, now: float) -> str:
    """A line for a log where nothing was said for long: what is at work."""
    jobs = [f"{job.rule} {run.label(job)} ({_progress(job, now, short=False)})" for job in run.running.values()]
    return f"at work: {', '.join(jobs[:_JOBS])}" + (" and more" if len(jobs) > _JOBS else "")


def end(run: Run, now: float) -> Notice | None:
    """The last line; none where nothing was to be done, or an error has ended it, which was said."""
    jobs, took = f"{run.done} of {run.total} jobs", clock(_elapsed(run, now))
    if run.stopping:
        text = f"daar: interrupted after {jobs}; the same command goes on from what was saved last."
        return Notice("failure", text)
    if run.failed:
        log = f" Snakemake's log: {run.log}" if run.log else ""
        return Notice("failure", f"daar: {jobs} done in {took}, {len(run.failed)} failed, see above.{log}")
    return Notice("news", f"daar: {jobs} done in {took}") if 0 < run.total <= run.done else None


def _whole(run: Run, now: float, width: int, *, ascii_only: bool) -> Text:
    head = Text(f"{run.done} of {run.total} jobs", style="bold")
    if run.failed:
        head.append(f", {len(run.failed)} failed", style="red")
    if run.stopping:
        return head.append(f"{_GAP}stopping: jobs save their state", style="yellow")
    tail = clock(_elapsed(run, now))
    rest = left.estimate(run, now)
    if rest and not (rest.least and rest.seconds < _SOON):
        tail += f", {'over' if rest.least else 'about'} {clock(rest.seconds)} left"
    columns = min(_BAR, width - 1 - head.cell_len - len(tail) - 2 * len(_GAP))
    bar = _bar(run.done / max(1, run.total), columns, ascii_only=ascii_only)
    return Text(_GAP).join([head, *([bar] if columns >= 8 else []), Text(tail)])


def _bar(share: float, columns: int, *, ascii_only: bool) -> Text:
    full = round(share * columns)
    made, open_ = ("#", "-") if ascii_only else ("━", "─")
    return Text.assemble((made * full, "green"), (open_ * (columns - full), "dim"))


def _at_work(run: Run, jobs: Sequence[Job], now: float, width: int, *, ascii_only: bool) -> list[Text]:
    """A line for each job: its rule, what it works on, how far it is.

    Where there is no room for all words there are fewer; then the middle gives way.
    """
    rows = _rows(run, jobs, now, short=width < _NARROW)
    room = width - 1 - 3 * len(_GAP)
    if sum(_columns(rows)) > room:
        rows = _rows(run, jobs, now, short=True)
    rule, label, progress = _columns(rows)
    label = max(0, min(label, room - rule - progress))
    lines = []
    for row in rows:
        middle = Text(row[1])
        middle.truncate(label, overflow="crop" if ascii_only else "ellipsis", pad=True)
        lines.append(Text(_GAP).join([Text(""), Text(row[0].ljust(rule), style="cyan"), middle, Text(row[2])]))
    return lines


def _rows(run: Run, jobs: Sequence[Job], now: float, *, short: bool) -> list[tuple[str, str, str]]:
    labels = [run.label(job).replace(" seed ", " s" if short else " seed ") for job in jobs]
    return [(job.rule, label, _progress(job, now, short=short)) for job, label in zip(jobs, labels, strict=True)]


def _columns(rows: Sequence[tuple[str, str, str]]) -> tuple[int, int, int]:
    """How wide each column is."""
    rule, label, progress = (max(map(len, column)) for column in zip(*rows, strict=True)) if rows else (0, 0, 0)
    return rule, label, progress


def _progress(job: Job, now: float, *, short: bool) -> str:
    epoch = job.epoch
    if epoch is None:
        return clock(now - job.since)
    ends = clock(epoch.ends - now)
    if short:
        return f"{epoch.number}/{epoch.of} val {epoch.val} ETA {ends}"
    return f"epoch {epoch.number}/{epoch.of}  val {epoch.val}  ETA {ends}"


def _elapsed(run: Run, now: float) -> float:
    return 0.0 if run.began is None else now - run.began
