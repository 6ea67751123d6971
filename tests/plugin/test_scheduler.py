"""The scheduler against made-up workers: every item runs once, whatever dies when."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_aprqa.domain.gateways import Gateway, gateway_item_name
from pytest_aprqa.plugin.costs import Timing
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


def known(**loads: float) -> dict[str, Timing]:
    """What an earlier run measured: a second for each item, and the loading as given."""
    return {f"{PLAYBOOK}::{name}": Timing(20, 20.0, load_s) for name, load_s in loads.items()}


def scheduling(
    workers: int, *, scoped: bool = False, timings: dict[str, Timing] | None = None
) -> tuple[TargetScheduling, Config]:
    config = Config()
    sched = TargetScheduling(cast(Any, config), workers, scoped=scoped, known=timings)
    return sched, config


def start(sched: TargetScheduling, names: list[str], collection: list[str]) -> list[Worker]:
    workers = [Worker(name) for name in names]
    for worker in workers:
        sched.add_node(cast(Any, worker))
    for worker in workers:
        sched.add_node_collection(cast(Any, worker), collection)
    sched.schedule()
    return workers


def join(sched: TargetScheduling, name: str, collection: list[str]) -> Worker:
    """A worker that replaces a dead one."""
    worker = Worker(name)
    sched.add_node(cast(Any, worker))
    sched.add_node_collection(cast(Any, worker), collection)
    sched.schedule()
    return worker


def step(sched: TargetScheduling, worker: Worker, seconds: float = 1.0) -> int:
    """The worker runs its next item."""
    assert worker.can_run()
    index = worker.queue.popleft()
    sched.mark_test_complete(cast(Any, worker), index, seconds)
    return index


def run_out(sched: TargetScheduling, *workers: Worker) -> list[list[int]]:
    """Workers step in turns until none can; what each of them ran."""
    ran: list[list[int]] = [[] for _ in workers]
    while any(worker.can_run() for worker in workers):
        for worker, done in zip(workers, ran, strict=True):
            if worker.can_run():
                done.append(step(sched, worker))
    return ran


def items_of(*targets: int) -> list[str]:
    return [f"{PLAYBOOK}::t{t}::i{i}" for t, count in enumerate(targets) for i in range(count)]


def loads_in(collection: list[str], indices: list[int]) -> list[str]:
    """The targets that the items belong to, each as often as it is begun anew."""
    units = [collection[index].split("::")[1] for index in indices]
    return [unit for place, unit in enumerate(units) if place == 0 or units[place - 1] != unit]


def test_the_longest_target_goes_first_and_each_is_loaded_once() -> None:
    sched, _ = scheduling(2, timings=known(t0=5, t1=5, t2=5, t3=5))
    collection = items_of(3, 8, 4, 9)
    ran = run_out(sched, *start(sched, ["gw0", "gw1"], collection))
    assert [loads_in(collection, indices) for indices in ran] == [["t3", "t0"], ["t1", "t2"]]


def test_targets_of_equal_cost_keep_their_places() -> None:
    sched, _ = scheduling(1)
    assert run_out(sched, *start(sched, ["gw0"], items_of(2, 2, 2))) == [[0, 1, 2, 3, 4, 5]]


def test_a_worker_gets_a_target_in_pieces_and_always_knows_its_next_item() -> None:
    sched, _ = scheduling(1, timings=known(t0=5))
    [worker] = start(sched, ["gw0"], items_of(5))
    assert worker.received == [0, 1]
    step(sched, worker)
    assert worker.received == [0, 1, 2]
    assert not worker.shutting_down


def test_short_items_are_sent_ahead() -> None:
    sched, _ = scheduling(1, timings={f"{PLAYBOOK}::t0": Timing(100, 2.0, 0.1)})
    [worker] = start(sched, ["gw0"], items_of(40))
    assert worker.received == list(range(13))  # a quarter of a second, behind the one that runs


def test_a_worker_that_runs_out_takes_the_second_half_of_a_long_rest() -> None:
    sched, _ = scheduling(2, timings=known(t0=5, t1=5))
    workers = start(sched, ["gw0", "gw1"], items_of(40, 4))
    gw0, gw1 = run_out(sched, *workers)
    assert gw1[:4] == [40, 41, 42, 43]
    assert gw1[4:8] == [22, 23, 24, 25]  # four had run: half of the 36 that were left stay
    assert abs(len(gw0) - len(gw1)) <= 2
    assert sorted(gw0 + gw1) == list(range(44))


@pytest.mark.parametrize(("load_s", "splits"), [(9.0, True), (11.0, False)])
def test_a_rest_is_split_only_when_that_saves_more_than_another_load(
    load_s: float, splits: bool
) -> None:
    sched, _ = scheduling(2, timings=known(t0=load_s, t1=5))
    _, worker = start(sched, ["gw0", "gw1"], items_of(40, 2))
    step(
        sched, worker
    )  # it has one item left, and 20 of the others' 40 would save 20 s less one load
    assert (len(worker.received) > 2) is splits
    assert worker.shutting_down is not splits


def test_the_longest_rest_is_split_first() -> None:
    sched, _ = scheduling(3, timings=known(t0=5, t1=5, t2=5))
    collection = items_of(40, 60, 2)
    workers = start(sched, ["gw0", "gw1", "gw2"], collection)
    step(sched, workers[2])
    assert loads_in(collection, workers[2].received) == ["t2", "t1"]


def test_a_worker_that_has_the_target_loaded_helps_until_nothing_is_left() -> None:
    sched, _ = scheduling(2, timings=known(t0=5))
    slow, quick = start(sched, ["gw0", "gw1"], items_of(40))
    while quick.can_run():
        step(sched, quick)
    assert slow.received == [0, 1]
    assert sorted(quick.received) == list(range(2, 40))
    assert run_out(sched, slow, quick) == [[0, 1], []]


def test_a_worker_without_work_waits_and_helps_when_items_turn_out_long() -> None:
    sched, _ = scheduling(2)
    owner, waiting = start(sched, ["gw0", "gw1"], items_of(60))
    step(sched, owner, seconds=0.5)  # the loading
    assert waiting.received == []
    assert not waiting.shutting_down
    step(sched, owner, seconds=9.0)
    assert waiting.received[0] >= 30
    first, second = run_out(sched, owner, waiting)
    assert sorted([0, 1, *first, *second]) == list(range(60))


def test_an_item_that_was_skipped_says_nothing_of_what_others_take() -> None:
    sched, _ = scheduling(1)
    collection = items_of(4)
    [worker] = start(sched, ["gw0"], collection)
    for index, seconds in enumerate([3.0, 2.0, 0.001, 4.0]):
        if index == 2:
            sched.disregard(collection[index])
        step(sched, worker, seconds)
    assert sched.timings() == {f"{PLAYBOOK}::t0": Timing(2, 6.0, 3.0)}


def test_gateways_stay_with_the_first_worker() -> None:
    names = [gateway_item_name(gateway, "t0") for gateway in Gateway]
    collection = [f"{PLAYBOOK}::t0::{name}" for name in names]
    sched, _ = scheduling(2, timings=known(t0=0))
    ran = run_out(sched, *start(sched, ["gw0", "gw1"], collection))
    assert ran == [[0, 1, 2, 3, 4], []]


def served(plain: int, scenarios: int, gates: int) -> list[str]:
    """A target with plain items, then those that ask its server; the server's end comes first."""
    names = [
        "serve_shutdown-t0",
        *(f"plain{i}-t0-run" for i in range(plain)),
        *(f"ask{i}-t0-serve" for i in range(scenarios)),
        *(f"serve_gate{i}-t0" for i in range(gates)),
    ]
    return [f"{PLAYBOOK}::t0::{name}" for name in names]


@pytest.mark.parametrize("plain", [0, 3, 30, 90])
def test_what_one_server_answers_stays_in_one_worker_and_its_end_comes_last(plain: int) -> None:
    collection = served(plain, scenarios=20, gates=10)
    sched, _ = scheduling(3, timings=known(t0=1))
    ran = run_out(sched, *start(sched, ["gw0", "gw1", "gw2"], collection))
    of_server = {0, *range(plain + 1, plain + 31)}
    [serving] = [indices for indices in ran if of_server & set(indices)]
    assert [index for index in serving if index in of_server][-1] == 0
    assert sorted(index for indices in ran for index in indices) == list(range(plain + 31))


def test_a_few_items_beside_those_of_a_server_are_not_worth_a_load() -> None:
    names = [*(f"ask{i}-t0-serve" for i in range(40)), *(f"plain{i}-t0-run" for i in range(4))]
    collection = [f"{PLAYBOOK}::t0::{name}" for name in names]
    sched, _ = scheduling(2, timings=known(t0=5))
    owner, other = start(sched, ["gw0", "gw1"], collection)
    step(sched, owner, seconds=5)
    assert other.received == []


def test_what_is_left_of_a_server_goes_on_in_one_worker_after_a_death() -> None:
    collection = served(0, scenarios=30, gates=0)
    sched, _ = scheduling(2, timings=known(t0=1))
    dying, other = start(sched, ["gw0", "gw1"], collection)
    step(sched, dying)
    assert other.received == []
    assert sched.remove_node(cast(Any, dying)) == collection[2]
    clone = join(sched, "gw2", collection)
    first, second = run_out(sched, other, clone)
    assert first == [*range(3, 31), 0]
    assert second == []


def test_a_dead_workers_pieces_and_the_rest_of_its_target_go_on_elsewhere() -> None:
    sched, _ = scheduling(2, timings=known(t0=5, t1=5))
    collection = items_of(10, 9)
    dying, other = start(sched, ["gw0", "gw1"], collection)
    step(sched, dying)
    assert sched.remove_node(cast(Any, dying)) == collection[1]
    clone = join(sched, "gw2", collection)
    first, second = run_out(sched, other, clone)
    assert first == list(range(10, 19))
    assert second == list(range(2, 10))


def test_a_run_that_was_stopped_loses_its_rest_without_a_crash() -> None:
    """After `-x` the workers are shut down from outside, with the rest still here."""
    sched, _ = scheduling(1, timings=known(t0=5))
    [worker] = start(sched, ["gw0"], items_of(10))
    worker.shutdown()
    assert run_out(sched, worker) == [[0, 1]]
    assert sched.remove_node(cast(Any, worker)) is None


def test_a_retried_item_is_run_again() -> None:
    sched, _ = scheduling(1, timings=known(t0=5))
    collection = items_of(4)
    [worker] = start(sched, ["gw0"], collection)
    step(sched, worker)
    sched.mark_test_pending(collection[0])
    assert run_out(sched, worker) == [[1, 2, 3, 0]]


def test_ordinary_tests_are_handed_out_one_by_one_behind_the_playbooks() -> None:
    sched, _ = scheduling(2)
    collection = [*(f"test_a.py::test_{i}" for i in range(6)), *items_of(3)]
    workers = start(sched, ["gw0", "gw1"], collection)
    assert [w.received for w in workers] == [[6, 7, 8], [0, 1]]


def test_with_loadscope_ordinary_tests_stay_together() -> None:
    sched, _ = scheduling(2, scoped=True)
    collection = ["a.py::x", "a.py::y", "a.py::z", "b.py::x", "b.py::y"]
    ran = run_out(sched, *start(sched, ["gw0", "gw1"], collection))
    assert ran == [[0, 1, 2], [3, 4]]


def test_single_items_go_to_as_many_workers_as_there_are() -> None:
    sched, _ = scheduling(2)
    workers = start(sched, ["gw0", "gw1"], items_of(1, 1))
    assert [w.received for w in workers] == [[0], [1]]
    assert all(w.shutting_down for w in workers)


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


@dataclass
class Unit:
    """A made-up target: its items' names, and what they take."""

    name: str
    gateways: bool
    plain: int
    serves: int
    load_s: float
    item_s: float

    @property
    def items(self) -> list[str]:
        gates = [gateway_item_name(g, self.name) for g in Gateway] if self.gateways else []
        plain = [f"i{i}" for i in range(self.plain)]
        served = [f"serve_{i}" for i in range(self.serves)]
        end = ["serve_shutdown"] if self.serves else []
        return [f"{PLAYBOOK}::{self.name}::{n}" for n in (*gates, *plain, *served, *end)]


UNITS = st.lists(
    st.builds(
        Unit,
        name=st.just(""),
        gateways=st.booleans(),
        plain=st.sampled_from([1, 2, 7, 30, 80]),
        serves=st.sampled_from([0, 0, 5]),
        load_s=st.sampled_from([0.0, 2.0, 60.0]),
        item_s=st.sampled_from([0.02, 1.0, 10.0]),
    ),
    min_size=1,
    max_size=4,
)
CHOICES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 19)), max_size=200)


@dataclass
class Drill:
    """Workers step in any order; now and then one dies, and is replaced some time later."""

    units: list[Unit]
    collection: list[str]
    sched: TargetScheduling
    alive: list[Worker]
    starting: int = 0
    deaths: int = 0
    ran: list[str] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)
    loaded: set[tuple[Worker, str]] = field(default_factory=set)

    def act(self, pick: int, fate: int) -> bool:
        """One event; False when nothing can happen any more."""
        ready = [worker for worker in self.alive if worker.can_run()]
        if self.starting and (fate == 1 or not ready):
            self.starting -= 1
            self.alive.append(join(self.sched, f"clone{self.deaths}", self.collection))
        elif fate == 0 and self.alive:
            self.kill(self.alive[pick % len(self.alive)])
        elif ready:
            self.complete(ready[pick % len(ready)])
        else:
            return False
        if self.sched.tests_finished:  # as xdist's session does after every event
            for worker in self.alive:
                worker.shutdown()
        self.look_for_idleness()
        return True

    def complete(self, worker: Worker) -> None:
        name = self.collection[worker.queue[0]]
        unit = next((u for u in self.units if f"::{u.name}::" in name), None)
        seconds = 0.1 if unit is None else unit.item_s
        if unit is not None and (worker, unit.name) not in self.loaded:
            self.loaded.add((worker, unit.name))
            seconds = unit.load_s
        elif "::g" in name:
            seconds = 0.0
        step(self.sched, worker, seconds)
        self.ran.append(name)

    def kill(self, worker: Worker) -> None:
        self.alive.remove(worker)
        name = self.sched.remove_node(cast(Any, worker))
        assert name == (self.collection[worker.queue[0]] if worker.queue else None)
        if name is not None:
            self.crashed.append(name)
        self.starting += 1
        self.deaths += 1

    def look_for_idleness(self) -> None:
        """No worker that could work is without a next item beside a rest that is worth a load."""
        usable = [worker for worker in self.alive if not worker.shutting_down]
        idle = [worker for worker in usable if len(worker.queue) < 2]
        if not idle:
            return
        out = {self.collection[index] for worker in self.alive for index in worker.queue}
        gone = out | set(self.ran) | set(self.crashed)
        for unit in self.units:
            left = [n for n in unit.items if n not in gone and "::g" not in n]
            part = -(-len(left) // len(self.alive))  # somebody holds at least this many of them
            if not unit.serves:
                assert part // 2 * unit.item_s <= 2 * unit.load_s, f"{unit.name}: {len(left)} left"


@settings(max_examples=400)
@given(
    units=UNITS,
    ordinary=st.integers(0, 5),
    workers=st.integers(1, 5),
    scoped=st.booleans(),
    informed=st.booleans(),
    choices=CHOICES,
)
def test_every_item_runs_once_nobody_idles_and_the_run_ends(
    units: list[Unit],
    ordinary: int,
    workers: int,
    scoped: bool,
    informed: bool,
    choices: list[tuple[int, int]],
) -> None:
    for place, unit in enumerate(units):
        unit.name = f"t{place}"
    collection = [name for unit in units for name in unit.items]
    collection += [f"t.py::test_{i}" for i in range(ordinary)]
    timings = {f"{PLAYBOOK}::{u.name}": Timing(50, 50 * u.item_s, u.load_s) for u in units}
    sched, config = scheduling(workers, scoped=scoped, timings=timings if informed else None)
    alive = start(sched, [f"gw{i}" for i in range(workers)], collection)
    drill = Drill(units if informed else [], collection, sched, alive)
    decisions = iter(choices)
    for _ in range(10_000):
        if not drill.act(*next(decisions, (0, 2))):
            break
    assert sorted(drill.ran + drill.crashed) == sorted(collection)
    assert sched.tests_finished
    assert not sched.has_pending
    assert all(worker.shutting_down for worker in drill.alive)
    assert not config.errors
    if not drill.deaths:
        check_servers(collection, alive)


def check_servers(collection: list[str], workers: list[Worker]) -> None:
    """Every target's server is asked by one worker, and ended by the last that it is asked."""
    asked: dict[str, list[tuple[Worker, str]]] = {}
    for worker in workers:
        for index in worker.received:
            _, *unit, name = collection[index].split("::")
            if name.startswith("serve_"):
                asked.setdefault(unit[0], []).append((worker, name))
    for calls in asked.values():
        assert len({worker for worker, _ in calls}) == 1
        assert calls[-1][1] == "serve_shutdown"
