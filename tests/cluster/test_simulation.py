"""The simulated queue against schedules worked out by hand, and against bounds that hold for any list schedule."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daar.cluster import simulation
from daar.cluster.costs import Cost
from daar.cluster.simulation import Entry
from daar.suite import definition, reading


def made(**changes: Any) -> definition.Suite:
    content = {
        "suite": "small",
        "datasets": ["digits"],
        "networks": ["resnet20"],
        "methods": ["l1", "daar"],
        "macs_reductions": [0.5, 0.7],
        "seeds": [0, 1],
        "finetune": {"epochs": 1},
        **changes,
    }
    return reading.from_config(content, "here")


def unit(found: definition.Suite) -> list[Cost]:
    """Every job of it takes a second; training ten."""
    of = ("digits", "resnet20", 1)
    jobs = [Cost("train", *of, 10.0), Cost("measure", *of, 1.0)]
    for variant in found.variants:
        if variant.of is None:
            jobs.append(Cost("score", *of, 1.0, variant.name))
    for setting in found.settings:
        cell = (setting.variant.name, setting.policy, setting.target)
        jobs += [Cost(kind, *of, 1.0, *cell) for kind in ("plan", "finetune", "scratch", "record")]
    return jobs


def test_the_queue_of_a_suite() -> None:
    queue = simulation.entries(made(), unit(made()))
    by_group = {group: [e for e in queue if e.group == group] for group in ("dense", "importance", "tuning")}
    assert {group: len(found) for group, found in by_group.items()} == {"dense": 2, "importance": 4, "tuning": 8}
    # trained and measured; scored, and planned for two targets; tuned and recorded
    assert [[found[0].seconds, found[0].jobs] for found in by_group.values()] == [[11.0, 2], [3.0, 3], [2.0, 2]]
    assert all(
        len(entry.after) == count for found, count in zip(by_group.values(), (0, 1, 2), strict=True) for entry in found
    )
    assert simulation.critical_path(queue) == 11 + 3 + 2
    assert sum(entry.jobs for entry in queue) == 2 * 2 + 4 * 3 + 8 * 2


def test_a_schedule_is_one_job_and_its_record() -> None:
    found = made(methods=["l1-soft"], variants={"at": {"random_at": "l1-soft"}}, macs_reductions=[0.5], seeds=[0])
    costs = [*unit(found), Cost("schedule", "digits", "resnet20", 1, 5.0, "l1-soft", "uniform", 0.5)]
    queue = simulation.entries(found, costs)
    assert [(entry.group, entry.seconds, entry.jobs) for entry in queue] == [
        *(("dense", 11.0, 2), ("tuning", 6.0, 2), ("tuning", 3.0, 3)),
    ]


def test_chains_that_share_an_entry_are_of_one_seed() -> None:
    queue = simulation.entries(made(), unit(made()), {"importance": 3, "tuning": 3}, overhead=100)
    assert [entry.group for entry in queue] == ["dense"] * 2 + ["importance"] * 2 + ["tuning"] * 4
    assert [entry.seconds for entry in queue if entry.group == "importance"] == [106.0, 106.0]
    assert all(len({queue[other].of[:2] for other in entry.after}) <= 1 for entry in queue)


def test_controls_wait_for_the_plan_of_their_origin() -> None:
    found = made(methods=["l1"], variants={"a": {"random_at": "l1"}, "b": {"scratch_of": "l1"}}, seeds=[0])
    queue = simulation.entries(found, unit(found))
    # l1's scores, two plans of its own and two of random_at in one chain; scratch has none
    assert [(e.jobs, e.seconds) for e in queue if e.group == "importance"] == [(5, 5.0)]
    assert len([e for e in queue if e.group == "tuning"]) == 6


def test_imported_weights_are_one_network_that_is_only_measured() -> None:
    found = made(base={"resnet20": {"file": "a.th"}})
    assert [e.jobs for e in simulation.entries(found, unit(found)) if e.group == "dense"] == [1]


def test_a_schedule_by_hand() -> None:
    queue = [Entry("dense", (), set(), 3.0), Entry("dense", (), set(), 2.0), Entry("tuning", (), {0}, 4.0)]
    queue.append(Entry("tuning", (), {1}, 1.0))
    one, two = simulation.run(queue, 1), simulation.run(queue, 2)
    assert (one.seconds, one.busy) == (10.0, 1.0)
    # the first machine: 3, then 4; the second: 2, then 1
    assert (two.seconds, two.busy) == (7.0, pytest.approx(10 / 14))


@st.composite
def queues(draw: st.DrawFn) -> list[Entry]:
    count = draw(st.integers(1, 12))
    seconds = st.floats(0.1, 10)
    before = [draw(st.sets(st.integers(0, index - 1), max_size=3)) if index else set() for index in range(count)]
    return [Entry("tuning", (), after, draw(seconds)) for after in before]


@given(queues(), st.integers(1, 5))
def test_bounds_of_any_list_schedule(queue: list[Entry], machines: int) -> None:
    """Not below work / machines or the critical path; not above their sum (Graham, 1966)."""
    found = simulation.run(queue, machines)
    work, path = sum(entry.seconds for entry in queue), simulation.critical_path(queue)
    assert found.seconds >= max(work / machines, path) - 1e-9
    assert found.seconds <= work / machines + path * (machines - 1) / machines + 1e-9


def test_the_words() -> None:
    text = simulation.to_text(simulation.entries(made(), unit(made())), [1, 4])
    assert text.splitlines()[0] == "32 jobs in 14 queue entries (2 dense, 4 importance, 8 tuning)"
    assert [line.split()[0] for line in text.splitlines()[-2:]] == ["1", "4"]
