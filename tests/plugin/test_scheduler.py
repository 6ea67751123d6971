"""The scheduler against made-up workers: every item runs once, whatever dies when."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_aprqa.plugin.scheduler import TargetScheduling

PLAYBOOK = "m.playbook.yaml"


class Worker:
    """A worker as the scheduler sees it: a queue of items and a wish to shut down."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.queue: deque[int] = deque()
        self.received: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        assert not self.shutting_down, "work for a worker that is shutting down"
        self.queue.extend(indices)
        self.received.extend(indices)

    def shutdown(self) -> None:
        self.shutting_down = True

    def can_run(self) -> bool:
        """A worker runs an item only when it knows the next one, or that there is none."""
        return len(self.queue) > 1 or (len(self.queue) == 1 and self.shutting_down)


class Config:
    """Collects what is reported as a collection error."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.hook = SimpleNamespace(
            pytest_collectreport=lambda report: self.errors.append(str(report.longrepr))
        )


def scheduling(workers: int, *, scoped: bool = False) -> tuple[TargetScheduling, Config]:
    config = Config()
    return TargetScheduling(cast(Any, config), workers, scoped=scoped), config


def start(sched: TargetScheduling, names: list[str], collection: list[str]) -> list[Worker]:
    workers = [Worker(name) for name in names]
    for worker in workers:
        sched.add_node(cast(Any, worker))
    for worker in workers:
        sched.add_node_collection(cast(Any, worker), collection)
    sched.schedule()
    return workers


def items_of(*targets: int) -> list[str]:
    return [f"{PLAYBOOK}::t{t}::i{i}" for t, count in enumerate(targets) for i in range(count)]


def test_the_items_of_a_target_go_to_one_worker() -> None:
    sched, _ = scheduling(2)
    collection = items_of(5, 4, 3)
    workers = start(sched, ["gw0", "gw1"], collection)
    assert workers[0].received == [0, 1, 2, 3, 4]
    assert workers[1].received == [5, 6, 7, 8]


def test_ordinary_tests_are_handed_out_one_by_one() -> None:
    sched, _ = scheduling(2)
    workers = start(sched, ["gw0", "gw1"], [f"test_a.py::test_{i}" for i in range(6)])
    assert [w.received for w in workers] == [[0, 1], [2, 3]]


def test_with_loadscope_ordinary_tests_stay_together() -> None:
    sched, _ = scheduling(2, scoped=True)
    collection = ["a.py::x", "a.py::y", "b.py::x", "b.py::y"]
    workers = start(sched, ["gw0", "gw1"], collection)
    assert [w.received for w in workers] == [[0, 1], [2, 3]]


def test_a_worker_that_collected_something_else_is_told() -> None:
    sched, config = scheduling(2)
    first, second = Worker("gw0"), Worker("gw1")
    for worker in (first, second):
        sched.add_node(cast(Any, worker))
    sched.add_node_collection(cast(Any, first), ["a.py::x"])
    sched.add_node_collection(cast(Any, second), ["a.py::y"])
    sched.schedule()
    assert len(config.errors) == 1
    assert "gw0" in config.errors[0]
    assert "a.py::y" in config.errors[0]


def test_an_idle_worker_that_is_gone_has_crashed_in_nothing() -> None:
    sched, _ = scheduling(2)
    workers = start(sched, ["gw0", "gw1"], items_of(3))
    assert sched.remove_node(cast(Any, workers[1])) is None
    with pytest.raises(KeyError):
        sched.remove_node(cast(Any, workers[1]))


@given(
    targets=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    ordinary=st.integers(0, 5),
    workers=st.integers(1, 4),
    scoped=st.booleans(),
    choices=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 19)), max_size=200),
)
def test_every_item_runs_once_and_the_run_ends(
    targets: list[int],
    ordinary: int,
    workers: int,
    scoped: bool,
    choices: list[tuple[int, int]],
) -> None:
    """Workers step in any order; now and then one dies in an item and is replaced."""
    collection = items_of(*targets) + [f"t.py::test_{i}" for i in range(ordinary)]
    sched, config = scheduling(workers, scoped=scoped)
    alive = start(sched, [f"gw{i}" for i in range(workers)], collection)
    ran: list[str] = []
    crashed: list[str] = []
    decisions = iter(choices)
    for step in range(10_000):
        ready = [w for w in alive if w.can_run()]
        if not ready:
            break
        pick, fate = next(decisions, (0, 1))
        worker = ready[pick % len(ready)]
        index = worker.queue.popleft()
        if fate == 0:
            alive.remove(worker)
            name = sched.remove_node(cast(Any, worker))
            assert name == collection[index]
            crashed.append(name)
            clone = Worker(f"clone{step}")
            alive.append(clone)
            sched.add_node(cast(Any, clone))
            sched.add_node_collection(cast(Any, clone), collection)
            sched.schedule()
        else:
            ran.append(collection[index])
            sched.mark_test_complete(cast(Any, worker), index)
    assert sorted(ran + crashed) == sorted(collection)
    assert sched.tests_finished
    assert not sched.has_pending
    assert all(worker.shutting_down for worker in alive)
    assert not config.errors
