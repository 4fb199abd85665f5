"""The lines that are shown of a run, for a fake stream of events."""

import pytest

from daar.progress import screen
from daar.progress.logs import Epoch
from daar.progress.state import Notice, Run
from tests.progress.events import BEGAN, DENSE, SETTING, finished, message, planned, said, started


@pytest.fixture
def run() -> Run:
    """After 1:12, with 2 of 31 jobs done."""
    it = Run()
    said(it, message("Building DAG of jobs..."), planned(pack=1, train=3, finetune=4, record=23))
    said(
        it,
        started(1, "pack", 2, {"dataset": "digits"}),
        finished(1, 12),
        started(2, "train", 12, DENSE),
        finished(2, 42),
    )
    said(
        it,
        started(3, "train", 42, {**DENSE, "seed": "1"}),
        started(4, "finetune", 60, SETTING),
        started(5, "record", 70, SETTING),
    )
    it.running[3].epoch = Epoch(7, 10, "95.83", BEGAN + 82)
    it.running[4].epoch = Epoch(1, 200, "9.10", BEGAN + 72 + 3722)
    return it


def foot(run: Run, width: int, height: int = 24, *, ascii_only: bool = False) -> list[str]:
    return [line.plain for line in screen.foot(run, BEGAN + 72, width, height, ascii_only=ascii_only)]


def test_the_foot_says_what_is_done_what_is_at_work_and_what_is_left(run: Run) -> None:
    assert foot(run, 80) == [
        "2 of 31 jobs  ━━────────────────────────────  1:12, about 3:33:46 left",
        "  train     resnet20 seed 1 dense   epoch 7/10  val 95.83  ETA 0:10",
        "  finetune  resnet20 seed 0 l1 0.7  epoch 1/200  val 9.10  ETA 1:02:02",
        "  record    resnet20 seed 0 l1 0.7  0:02",
    ]


def test_a_narrow_terminal_has_the_same_in_fewer_words(run: Run) -> None:
    assert foot(run, 60) == [
        "2 of 31 jobs  ━──────────────────  1:12, about 3:33:46 left",
        "  train     resnet20 s1 dense   7/10 val 95.83 ETA 0:10",
        "  finetune  resnet20 s0 l1 0.7  1/200 val 9.10 ETA 1:02:02",
        "  record    resnet20 s0 l1 0.7  0:02",
    ]


def test_fewer_words_before_a_label_is_cut_where_policies_make_it_long(run: Run) -> None:
    run.ambiguous = frozenset({"l1"})
    assert foot(run, 90)[2] == "  finetune  resnet20 seed 0 l1, uniform 0.7  epoch 1/200  val 9.10  ETA 1:02:02"
    assert foot(run, 79)[1:] == [
        "  train     resnet20 s1 dense            7/10 val 95.83 ETA 0:10",
        "  finetune  resnet20 s0 l1, uniform 0.7  1/200 val 9.10 ETA 1:02:02",
        "  record    resnet20 s0 l1, uniform 0.7  0:02",
    ]
    said(run, started(6, "record_scheduled", 70, {**SETTING, "policy": "adaptive"}))
    assert foot(run, 80)[2:] == [
        "  finetune          resnet20 s0 l1, uniform 0.7   1/200 val 9.10 ETA 1:02:02",
        "  record            resnet20 s0 l1, uniform 0.7   0:02",
        "  record_scheduled  resnet20 s0 l1, adaptive 0.7  0:02",
    ]


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("width", [1, 8, 20, 40, 59, 60, 79, 80, 81, 200])
def test_no_line_is_as_wide_as_the_terminal(run: Run, width: int, ascii_only: bool) -> None:
    run.failed = {7, 8}
    for line in screen.foot(run, BEGAN + 72, width, 24, ascii_only=ascii_only):
        assert line.cell_len < max(2, width)
        assert line.plain.isascii() or not ascii_only


def test_the_foot_is_lower_than_the_terminal(run: Run) -> None:
    for number in range(10, 40):
        said(run, started(number, "record", 71, SETTING))
    for height in range(4, 30):
        lines = foot(run, 80, height)
        assert len(lines) < height
        assert lines[-1] == f"  and {33 - (len(lines) - 2)} more at work"


def test_failures_are_counted_and_an_interrupted_run_says_what_it_waits_for(run: Run) -> None:
    run.failed = {7}
    assert foot(run, 80)[0].startswith("2 of 31 jobs, 1 failed  ━")
    run.stopping = True
    assert foot(run, 80)[0] == "2 of 31 jobs, 1 failed  stopping: jobs save their state"


def test_what_is_left_is_not_said_where_nobody_knows(run: Run) -> None:
    it = Run()
    said(it, planned(train=2, finetune=2), started(1, "train", 2, DENSE))
    assert foot(it, 80)[0].endswith("  1:11")
    it.running[1].epoch = Epoch(1, 2, "50.00", BEGAN + 74)  # tunings will take longer than this
    assert foot(it, 80)[0].endswith("  1:11, over 1:14 left")
    it.counts["train"] = 1
    assert foot(it, 80)[0].endswith("  1:11")


def test_a_line_says_how_far_the_run_is(run: Run) -> None:
    def line(kind: str, text: str, of: Run = run) -> str:
        return screen.event(Notice(kind, text), of, BEGAN + 72).plain

    assert line("news", "digits: packed") == "[2/31  1:12]  digits: packed"
    assert line("failure", "train failed: x") == "[2/31  1:12]  train failed: x"
    assert line("news", "daar: 7 of 8 settings have a record") == "daar: 7 of 8 settings have a record"
    assert line("error", "LockException:\nError") == "LockException:\nError"
    assert line("warning", "early", Run()) == "early"


def test_a_log_in_which_nothing_was_said_for_long_names_what_is_at_work(run: Run) -> None:
    assert screen.still(run, BEGAN + 72) == (
        "at work: train resnet20 seed 1 dense (epoch 7/10  val 95.83  ETA 0:10), "
        "finetune resnet20 seed 0 l1 0.7 (epoch 1/200  val 9.10  ETA 1:02:02), record resnet20 seed 0 l1 0.7 (0:02)"
    )


def test_the_last_line(run: Run) -> None:
    def last() -> str | None:
        notice = screen.end(run, BEGAN + 72)
        return None if notice is None else f"{notice.kind}: {notice.text}"

    assert last() is None  # an error has ended it, which was said
    run.failed, run.log = {7}, "/a/b.log"
    assert last() == "failure: daar: 2 of 31 jobs done in 1:12, 1 failed, see above. Snakemake's log: /a/b.log"
    run.stopping = True
    assert last() == "failure: daar: interrupted after 2 of 31 jobs; the same command goes on from what was saved last."
    run.failed, run.stopping, run.done = set(), False, 31
    assert last() == "news: daar: 31 of 31 jobs done in 1:12"
    assert screen.end(Run(), BEGAN) is None
