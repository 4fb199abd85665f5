import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import benchmarks
from benchmarks import output, pruning
from benchmarks.__main__ import main
from benchmarks.harness import Benchmark, Goal, Options, Result, Side, Sides, at_least, measure, under, within
from benchmarks.quiet import Quiet, seconds_of_others
from daar.errors import InputError

OPTIONS = Options(torch.device("cpu"), steps=1, lead=1, train_images=256, test_images=500)
RUN = {
    "date": "2026-01-02T03:04:05+00:00",
    "windows": 3,
    "device": "cpu",
    "environment": {
        "threads": 2,
        "hardware": {"cpu": "a processor", "cores": 2, "gpu": None},
        "versions": {"python": "3.12.0", "torch": "2.9.0"},
        "commit": None,
    },
    "load_before": 0.25,
    "load_after": 2.0,
}


class Clock:
    """Stands still but for the work that is done, and keeps a log of it."""

    def __init__(self) -> None:
        self.now, self.log = 0.0, ""

    def __call__(self) -> float:
        return self.now

    def side(self, mark: str, seconds: list[float], images: int = 0, **more: int) -> Side:
        """A side whose windows, warm-up included, last that long; afterwards as long as the last."""
        left = list(seconds)

        def work() -> None:
            self.log += mark
            self.now += left.pop(0) if len(left) > 1 else left[0]

        def before() -> None:
            self.log += mark.lower()
            self.now += 1000

        return Side(f"side {mark}", work, images, before=before, **more)


def fake(
    name: str, ours: Side, reference: Side | None = None, *, goal: Goal | None = None, **settings: float | bool
) -> Benchmark:
    @contextmanager
    def opened(_: Options) -> Iterator[Sides]:
        yield Sides(ours, reference)

    return Benchmark(name, f"Title of {name}", opened, goal, **settings)  # type: ignore[arg-type]


def pair(ours: list[float], reference: list[float], goal: Goal | None = None, images: int = 12) -> Result:
    """A result with these seconds per window; the warm-up takes an hour."""
    clock = Clock()
    sides = (clock.side("A", [3600, *ours], images), clock.side("B", [3600, *reference], images))
    return measure(fake("pair", *sides, goal=goal), OPTIONS, len(ours), clock)


# the harness


def test_windows_take_turns_after_a_warm_up_of_both() -> None:
    clock = Clock()
    measure(fake("pair", clock.side("A", [1], 1), clock.side("B", [1], 1)), OPTIONS, 3, clock)
    assert clock.log == "aAbB" * 4


def test_what_runs_before_a_window_and_the_warm_up_are_not_timed() -> None:
    result = pair([1, 2, 4], [2, 6, 4])
    assert result.unit == "images/s"
    assert result.ours.windows == (12, 6, 3)
    assert result.reference is not None
    assert result.reference.windows == (6, 2, 3)


def test_ratios_are_of_neighbouring_windows() -> None:
    compared = pair([1, 2, 4], [2, 6, 4]).compared
    assert compared is not None
    # the ratio of the medians, 6 / 3, would be the same; that of the means, 7 / 3.67, would not
    assert compared.windows == (2, 3, 1)
    assert compared.median == 2
    paired = pair([1, 2, 4], [1, 8, 10]).compared
    assert paired is not None
    assert paired.median == 2.5  # medians alone give 6 / 1.5 = 4


def test_an_even_number_of_windows_has_a_median_too() -> None:
    assert pair([1, 2, 3, 12], [1, 1, 1, 1]).ours.median == 5


def test_in_seconds_a_ratio_above_one_still_says_that_ours_is_faster() -> None:
    result = pair([1, 2], [3, 6], images=0)
    assert result.unit == "s"
    assert result.ours.windows == (1, 2)
    assert result.compared is not None
    assert result.compared.windows == (3, 3)


def test_seconds_are_those_of_one_time() -> None:
    clock = Clock()
    result = measure(fake("many", clock.side("A", [40], times=10)), OPTIONS, 1, clock)
    assert result.ours.windows == (4,)


def test_a_difference_is_ours_minus_the_reference() -> None:
    clock = Clock()
    sides = (clock.side("A", [9, 3, 5]), clock.side("B", [9, 1, 7]))
    result = measure(fake("gap", *sides, difference=True), OPTIONS, 2, clock)
    assert result.compared is not None
    assert result.compared.windows == (2, -2)
    assert "difference" in result.to_json()
    assert "ratio" not in result.to_json()


def test_without_a_reference_nothing_is_compared() -> None:
    clock = Clock()
    result = measure(fake("alone", clock.side("A", [9, 1, 2])), OPTIONS, 2, clock)
    assert clock.log == "aA" * 3
    assert result.reference is None
    assert result.compared is None


def test_a_benchmark_may_ask_for_fewer_windows() -> None:
    clock = Clock()
    result = measure(fake("few", clock.side("A", [1]), most=2), OPTIONS, 7, clock)
    assert len(result.ours.windows) == 2


@pytest.mark.parametrize(("budget", "windows"), [(0, 1), (2.5, 2), (1e9, 7)])
def test_a_budget_ends_a_long_benchmark_but_one_window_there_is(budget: float, windows: int) -> None:
    clock = Clock()
    result = measure(fake("long", clock.side("A", [1]), budget=budget), OPTIONS, 7, clock)
    assert len(result.ours.windows) == windows


def test_both_sides_are_closed_when_one_fails() -> None:
    closed = []

    @contextmanager
    def opened(_: Options) -> Iterator[Sides]:
        try:
            yield Sides(Side("fails", lambda: 1 / 0))  # type: ignore[arg-type]
        finally:
            closed.append(True)

    with pytest.raises(ZeroDivisionError):
        measure(Benchmark("fails", "", opened), OPTIONS, 1)
    assert closed


# other programs


class Others:
    """Use a core in the named seconds; both our waiting and our work take time."""

    def __init__(self, *at_work: int) -> None:
        self.at_work, self.clock = at_work, Clock()

    def quiet(self, patience: float) -> Quiet:
        return Quiet(patience, self.used, self.clock, self.sleep)

    def used(self) -> float:
        return sum(second < self.clock.now for second in self.at_work)

    def sleep(self, seconds: float) -> None:
        self.clock.log += "."
        self.clock.now += seconds

    def side(self, mark: str) -> Side:
        def work() -> None:
            self.clock.log += mark
            self.clock.now += 1

        return Side(mark, work)


def test_a_round_waits_for_others_and_is_repeated_if_they_disturb_it() -> None:
    others = Others(2, 3, 6)
    result = measure(fake("pair", others.side("A"), others.side("B")), OPTIONS, 2, others.clock, others.quiet(10))
    # warm-up, a wait of three seconds, a round that is disturbed in its second half, and two that are not
    assert others.clock.log == "AB...AB.AB.AB"
    assert result.repeated == 1
    assert len(result.ours.windows) == 2
    assert "other programs were running: 1" in output.markdown(RUN, [result])


def test_patience_comes_to_an_end() -> None:
    others = Others(*range(100))
    result = measure(fake("alone", others.side("A")), OPTIONS, 3, others.clock, others.quiet(4))
    assert others.clock.log == "A....AAA"
    assert (result.repeated, len(result.ours.windows)) == (0, 3)


def test_without_patience_nothing_is_waited_for() -> None:
    others = Others(*range(100))
    measure(fake("alone", others.side("A")), OPTIONS, 3, others.clock, others.quiet(0))
    assert others.clock.log == "AAAA"


def test_where_the_system_does_not_say_it_counts_as_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.quiet.PROC", tmp_path)
    assert seconds_of_others() is None
    quiet = Quiet(5, sleep=lambda _: None)
    quiet.wait()
    assert not quiet.disturbed()


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux says what others do")
def test_our_own_work_is_not_that_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    (tmp_path / "stat").write_text(
        f"cpu  {1000 * ticks} {ticks} 0 5000 700 0 0 {ticks} 50 60\ncpu0 1\n", encoding="ascii"
    )
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(
        f"7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 {ticks} {2 * ticks} 0 0", encoding="ascii"
    )
    monkeypatch.setattr("benchmarks.quiet.PROC", tmp_path)
    monkeypatch.setattr("os.times", lambda: (100.0, 10.0, 20.0, 2.0, 0.0))
    monkeypatch.setattr("multiprocessing.active_children", lambda: [SimpleNamespace(pid=7)])
    # idle time, waiting for disks and guests (counted as user already) are left out
    assert seconds_of_others() == 1000 + 1 + 1 - 132 - 3


# goals


def test_a_ratio_reaches_its_goal_by_its_median() -> None:
    assert pair([1, 1, 1], [1.5, 9, 1], at_least(1.5)).reached is True
    assert pair([1, 1, 1], [1.25, 9, 1], at_least(1.5)).reached is False
    assert pair([1], [1]).reached is None


def test_a_multiple_of_the_reference_s_time_is_not_passed() -> None:
    results = [pair([seconds], [1], within(2), images=0) for seconds in (2.0, 2.1)]
    assert [result.reached for result in results] == [True, False]
    assert results[0].benchmark.goal is not None
    assert results[0].benchmark.goal.words == "≤ 2× the time"


def test_seconds_stay_below_their_goal() -> None:
    clock = Clock()
    results = [
        measure(fake("s", clock.side("A", [seconds]), goal=under(5)), OPTIONS, 1, clock) for seconds in (4.9, 5.0)
    ]
    assert [result.reached for result in results] == [True, False]


# what is written


def test_the_table_says_everything_of_a_result_and_does_not_hide_a_miss() -> None:
    results = [pair([1, 2, 4], [2, 6, 4], at_least(goal)) for goal in (1.8, 2.5)]
    lines = output.markdown(RUN, results).splitlines()
    front = "| Title of pair | 6 images/s (3–12) | 3 images/s (2–6) | 2.00× (1.00–3.00) | 3 |"
    assert f"{front} ≥ 1.8× | yes |" in lines
    assert f"{front} ≥ 2.5× | **no** |" in lines
    assert "- `pair`: side A; reference: side B" in lines
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


def test_the_table_says_what_it_was_measured_on() -> None:
    text = output.markdown(RUN, [pair([1], [1])])
    for part in (
        "2026-01-02",
        "a processor",
        "2 threads",
        "torch 2.9.0",
        "commit unknown",
        "random uint8",
        "0.2 before",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0123, "12.3 ms (12.3–12.3)"),
        (0.5, "500 ms (500–500)"),
        (1.234, "1.23 s (1.23–1.23)"),
        (75.4, "75.4 s (75.4–75.4)"),
        (1234.5, "1,234 s (1,234–1,234)"),
    ],
)
def test_seconds_have_three_digits(seconds: float, words: str) -> None:
    clock = Clock()
    result = measure(fake("s", clock.side("A", [seconds])), OPTIONS, 1, lambda: round(clock.now, 4))
    assert f"| {words} | – | – | 1 | – | – |" in output.markdown(RUN, [result])


def test_a_difference_has_a_sign() -> None:
    clock = Clock()
    sides = (clock.side("A", [0.5]), clock.side("B", [0.25]))
    result = measure(fake("gap", *sides, difference=True), OPTIONS, 2, lambda: round(clock.now, 4))
    assert "| +250 ms (250 to 250) |" in output.markdown(RUN, [result])


def test_json_holds_every_window(tmp_path: Path) -> None:
    output.write(tmp_path, RUN, [pair([1, 2, 4], [2, 6, 4], at_least(1.8))])
    content = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert content["environment"] == RUN["environment"]
    (entry,) = content["benchmarks"]
    assert entry["ours"] == {"what": "side A", "windows": [12, 6, 3], "median": 6, "min": 3, "max": 12}
    assert entry["reference"]["windows"] == [6, 2, 3]
    assert entry["ratio"] == {"windows": [2, 3, 1], "median": 2, "min": 1, "max": 3}
    assert (entry["name"], entry["unit"], entry["goal"], entry["reached"]) == ("pair", "images/s", "≥ 1.8×", True)


def test_without_a_reference_json_says_null() -> None:
    clock = Clock()
    alone = measure(fake("alone", clock.side("A", [1])), OPTIONS, 1, clock).to_json()
    assert alone["reference"] is None
    assert alone["ratio"] is None
    assert alone["reached"] is None


def test_the_figure_shows_ratios_alone_and_goes_when_there_are_none(tmp_path: Path) -> None:
    clock = Clock()
    alone = measure(fake("alone", clock.side("A", [1])), OPTIONS, 1, clock)
    output.write(tmp_path, RUN, [pair([1, 1], [2, 3], at_least(1.8)), pair([1], [1]), alone])
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    output.write(tmp_path, RUN, [alone])
    assert not (tmp_path / "bench.png").exists()


def test_the_figure_labels_each_kind_of_bar_once() -> None:
    results = [pair([1], [2], at_least(1.8)), pair([1], [2], at_least(1.8)), pair([1], [1], at_least(1.8))]
    picture = output.figure(RUN, results)
    (legend,) = picture.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert sorted(labels) == ["goal", "goal missed", "goal reached"]


# the command


def test_an_unknown_name_lists_those_there_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--only", "train-resnet9000", "--out", str(tmp_path)])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "unknown benchmark 'train-resnet9000'" in error
    for name in ("train-resnet20", "evaluate-resnet20", "import", "dry-run", "prune-resnet110", "score-l1"):
        assert name in error


@pytest.mark.parametrize("option", ["--windows", "--steps"])
def test_there_is_at_least_one_window_and_one_step(
    option: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([option, "0", "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert f"{option} is 0; it must be 1 or more" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_only_keeps_the_order_of_the_catalogue() -> None:
    known = benchmarks.catalogue()
    assert benchmarks.select(known, None) == list(known.values())
    assert [b.name for b in benchmarks.select(known, ["score-l1", "import"])] == ["import", "score-l1"]


def test_every_method_has_a_benchmark_of_its_scores() -> None:
    from daar.methods import discovery

    known = set(benchmarks.catalogue())
    compared = {"hrank", "daar"}  # beside references
    for name in discovery.find():
        assert (f"{name}-resnet56" if name in compared else f"score-{name}") in known


def test_every_policy_has_a_benchmark_of_its_plan() -> None:
    """Ours and those that folders bring; a paper's own ratios are of its networks alone."""
    from daar.pruning import policies

    every = [name for name in policies.names() if not name.startswith("published-")]
    assert {f"plan-resnet110-{name}" for name in every} <= set(benchmarks.catalogue())


def test_without_daar_its_benchmarks_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from daar.methods import discovery

    others = {name: method for name, method in discovery.find().items() if name != "daar"}
    monkeypatch.setattr(discovery, "find", lambda *_: others)
    assert not any(name.startswith("daar-") for name in benchmarks.catalogue())
    assert "hrank-resnet56" in benchmarks.catalogue()


def test_methods_that_see_no_images_are_timed_on_many_networks() -> None:
    known = benchmarks.catalogue()
    assert "CIFAR's 10 ResNets and VGG-16" in known["score-fpgm"].title
    for name in ("score-l1", "score-fpgm"):
        goal = known[name].goal
        assert goal is not None
        assert goal.words == "< 1 s"


# forking with threads about is what a DataLoader does; Python warns of it from 3.12 on
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_everything_runs_for_real(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pruning, "NETWORK", "resnet20")
    monkeypatch.setattr(pruning, "LIMITS", {"resnet20": 5})
    monkeypatch.setattr(pruning, "IMAGES", 32)
    only = [
        "train-resnet20",
        "evaluate-resnet20",
        "import",
        "prune-resnet20",
        "plan-resnet20-uniform",
        "loss-resnet20",
        "score-random",
    ]
    printed = benchmarks.run(tmp_path, 1, only, OPTIONS, as_json=True)
    content = json.loads(printed)
    assert content == json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert [b["name"] for b in content["benchmarks"]] == only
    for entry in content["benchmarks"]:
        assert entry["ours"]["median"] > 0
    assert next(b["facts"] for b in content["benchmarks"] if b["name"] == "import") == {"torch is imported": False}
    assert capsys.readouterr().err.count("\n") == len(only)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "bench.md", "bench.png"]


def test_a_command_that_fails_is_named() -> None:
    from benchmarks.startup import run_python

    with pytest.raises(InputError, match="exits with 3"):
        run_python("-c", "raise SystemExit(3)")
