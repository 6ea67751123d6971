"""Scheduling under xdist: longest first, one load per target, no idle worker, nothing lost.

xdist's own loadscope hands out the next scope too early and, in 3.8, runs a crashed item again or
hangs (xdist#1323, #1327, #1378). This is the whole `Scheduling` protocol, on public names only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_aprqa.plugin.costs import Tally, Timing, UnitCost, estimate, is_gateway, target_of
from pytest_aprqa.plugin.hooks import PLAYBOOK_SUFFIX
from pytest_aprqa.plugin.shares import Share, shutdown_last
from pytest_aprqa.plugin.timings import Timekeeper, known_timings

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

_AHEAD_S = 0.25
"""Seconds of work that a worker has waiting, so that it need not wait for the controller."""
_AHEAD = 16
"""Most items that a worker has waiting; what has been sent can no longer go to another."""
_ORDINARY = UnitCost(0.0, 0.1)


def scheduler_for(config: pytest.Config) -> TargetScheduling | None:
    """Our scheduler for a run with playbooks in the modes `load` and `loadscope`; else xdist's."""
    mode = config.getvalue("dist")
    if mode not in ("load", "loadscope"):
        return None
    from xdist.workermanage import parse_tx_spec_config

    scheduling = TargetScheduling(
        config,
        len(parse_tx_spec_config(config)),
        scoped=mode == "loadscope",
        known=known_timings(config),
        absent=_is_absent,
    )
    keeper = Timekeeper(config, scheduling.timings, scheduling.disregard)
    config.pluginmanager.register(keeper, "aprqa-timekeeper")
    return scheduling


class TargetScheduling:
    """Hands out whole targets, longest first; ordinary tests one by one, or by `loadscope`.

    A worker runs an item only once it knows the next one or is told to shut down. So each has two
    items or more, and the rest of its unit stays here. When nothing is queued, a worker that runs
    out takes half of another's rest, if that ends the run sooner by more than another load.
    """

    def __init__(
        self,
        config: pytest.Config,
        workers: int,
        *,
        scoped: bool,
        known: Mapping[str, Timing] | None = None,
        absent: Callable[[str], bool] = lambda target: False,
    ) -> None:
        """`known` is what earlier runs measured; `absent` says whether a target cannot run here."""
        self.config = config
        self._workers = workers
        self._scoped = scoped
        self._known = known or {}
        self._absent = absent
        self._collections: dict[WorkerController, list[str]] = {}
        self._pending: dict[WorkerController, deque[int]] = {}
        self._held: dict[WorkerController, Share] = {}
        self._warm: set[WorkerController] = set()
        self._cold_units: set[tuple[WorkerController, str]] = set()
        self._queue: deque[Share] = deque()
        self._collection: list[str] | None = None
        self._names: list[str] = []
        self._costs: dict[str, UnitCost] = {}
        self._tallies: dict[str, Tally] = {}
        self._disregarded: set[str] = set()

    @property
    def nodes(self) -> list[WorkerController]:
        """The workers that take part."""
        return list(self._pending)

    @property
    def collection_is_completed(self) -> bool:
        """Whether every worker of the start has collected."""
        return self._collection is not None or len(self._collections) >= self._workers

    @property
    def tests_finished(self) -> bool:
        """Whether nothing waits and no worker holds more than the item it runs."""
        return (
            self.collection_is_completed
            and not self._waiting
            and all(len(pending) < 2 for pending in self._pending.values())
        )

    @property
    def has_pending(self) -> bool:
        """Whether anything waits or runs."""
        return self._waiting or any(self._pending.values())

    @property
    def _waiting(self) -> bool:
        return bool(self._queue) or any(share.rest for share in self._held.values())

    def timings(self) -> dict[str, Timing]:
        """What this run measured of its units, but for items that were disregarded."""
        measured = ((unit, tally.timing()) for unit, tally in self._tallies.items())
        return {unit: timing for unit, timing in measured if timing is not None}

    def disregard(self, node_id: str) -> None:
        """Measure nothing by this item, which is about to be reported as complete."""
        self._disregarded.add(node_id)

    def add_node(self, node: WorkerController) -> None:
        """A worker is up."""
        self._pending[node] = deque()

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        """A worker has collected; one that replaces a crashed one must find the same items."""
        found = list(collection)
        if self._collection is not None and found != self._collection:
            self._report_difference(node, found, self._collection)
            return
        self._collections[node] = found

    def mark_test_complete(
        self, node: WorkerController, item_index: int, duration: float = 0
    ) -> None:
        """A worker is done with an item."""
        self._pending[node].remove(item_index)
        self._measure(node, item_index, duration)
        self._distribute()

    def mark_test_pending(self, item: str) -> None:
        """Run an item again, as retry plugins ask."""
        assert self._collection is not None
        index = self._collection.index(item)
        self._queue.appendleft(Share(self._unit_of(index), deque([index]), self._splits(index)))
        self._distribute()

    def remove_pending_tests_from_node(
        self, node: WorkerController, indices: Sequence[int]
    ) -> None:
        """Never called: what has been sent to a worker is not asked back."""
        raise NotImplementedError("this scheduler steals no work that was sent")

    def remove_node(self, node: WorkerController) -> str | None:
        """A worker is gone; gives the item it died in, and hands the rest to others.

        Raises:
            KeyError: for a worker that took no part.
        """
        pending = self._pending.pop(node)
        held = self._held.pop(node, None)
        collected = self._collections.pop(node, None)
        self._warm.discard(node)
        if collected is None:
            return None
        crashed = collected[pending.popleft()] if pending else None
        left = [*pending, *(held.rest if held is not None else ())]
        self._queue.extendleft(reversed(self._shares(left)))
        self._distribute()
        return crashed

    def schedule(self) -> None:
        """Hand out work: to all at the start, to a replacement when it has collected."""
        assert self.collection_is_completed
        if self._collection is None:
            first, *others = self._collections.items()
            for node, found in others:
                if found != first[1]:
                    self._report_difference(node, found, first[1])
                    return
            self._collection = first[1]
            self._names = [node_id.rsplit("::", 1)[-1] for node_id in self._collection]
            self._queue.extend(self._longest_first())
        self._distribute()

    def _longest_first(self) -> list[Share]:
        """Every unit: a playbook's by what it costs, then ordinary tests as collected."""
        shares = self._shares(range(len(self._names)))
        totals: dict[str, float] = {}
        for share in shares:
            if share.splits:
                names = [self._names[index] for index in share.rest]
                target = target_of(share.unit)
                cost = estimate(share.unit, names, self._known, absent=self._absent(target))
                self._costs[share.unit] = cost
                totals[share.unit] = cost.total(sum(not is_gateway(n, target) for n in names))
        return sorted(shares, key=lambda share: -totals.get(share.unit, -1.0))

    def _shares(self, indices: Sequence[int]) -> list[Share]:
        """What is handed out together, in the order of the units' first items."""
        units: dict[str, list[int]] = {}
        for index in indices:
            units.setdefault(self._unit_of(index), []).append(index)
        return [
            Share(unit, deque(shutdown_last(found, self._names)), self._splits(found[0]))
            for unit, found in units.items()
        ]

    def _unit_of(self, index: int) -> str:
        assert self._collection is not None
        node_id = self._collection[index]
        whole = self._splits(index) or self._scoped
        return node_id.rsplit("::", 1)[0] if whole else node_id

    def _splits(self, index: int) -> bool:
        assert self._collection is not None
        return f"{PLAYBOOK_SUFFIX}::" in self._collection[index]

    def _usable(self) -> list[WorkerController]:
        return [n for n in self._pending if n in self._collections and not n.shutting_down]

    def _is_idle(self, node: WorkerController) -> bool:
        """Whether a worker cannot go on: it holds one item at most, and no rest to send."""
        held = self._held.get(node)
        return len(self._pending[node]) < 2 and not (held is not None and held.rest)

    def _distribute(self) -> None:
        """Give every worker its next items; shut down those for which there is nothing."""
        if self._collection is None:
            return
        for node in self._usable():
            self._feed(node)
        while self._queue and (idle := [n for n in self._usable() if self._is_idle(n)]):
            node = min(idle, key=lambda n: len(self._pending[n]))
            self._hold(node, self._next_for(node))
        for node in self._usable():
            while self._is_idle(node) and self._take_half(node):
                self._feed(node)
            # A worker that holds nothing waits: what is measured may make a split worth it.
            if self._is_idle(node) and (self._pending[node] or not self._waiting):
                node.shutdown()

    def _next_for(self, node: WorkerController) -> Share:
        """The next in the queue; before it, what belongs to the target that the worker has."""
        held = self._held.get(node)
        own = next((s for s in self._queue if held is not None and s.unit == held.unit), None)
        share = own or self._queue[0]
        self._queue.remove(share)
        return share

    def _hold(self, node: WorkerController, share: Share) -> None:
        if self._cost(share.unit).needs_torch and node not in self._warm:
            self._warm.add(node)
            self._cold_units.add((node, share.unit))
        self._held[node] = share
        self._feed(node)

    def _feed(self, node: WorkerController) -> None:
        """Send the worker as much of what it holds as it needs to go on without waiting."""
        share, pending = self._held.get(node), self._pending[node]
        if share is None or not share.rest:
            return
        ahead = 1 + min(_AHEAD, max(1, round(_AHEAD_S / self._cost(share.unit).item_s)))
        piece = share.next_piece(ahead - len(pending), self._names)
        if piece:
            pending.extend(piece)
            node.send_runtest_some(piece)

    def _take_half(self, node: WorkerController) -> bool:
        """Move the second half of another worker's rest to this one, where most is saved."""
        best: tuple[float, Share, list[int]] | None = None
        for owner in self._usable():
            share = self._held.get(owner)
            if owner is node or share is None or not share.rest or not share.splits:
                continue
            load_s, item_s = self._load_s(node, share.unit), self._cost(share.unit).item_s
            left = len(self._pending[owner]) + len(share.rest)
            if left / 2 * item_s <= 2 * load_s:
                continue  # no part of it would save more than a load
            offer = share.offer(left // 2, self._names)
            after = max((left - len(offer)) * item_s, load_s + len(offer) * item_s)
            saved = left * item_s - after
            if offer and saved > load_s and (best is None or saved > best[0]):
                best = saved, share, offer
        if best is None:
            return False
        self._hold(node, best[1].give(best[2]))
        return True

    def _load_s(self, node: WorkerController, unit: str) -> float:
        """Seconds before the worker could ask the unit's next item; none where it is loaded."""
        held = self._held.get(node)
        if held is not None and held.unit == unit:
            return 0.0
        return self._cost(unit).load_in(warm=node in self._warm)

    def _cost(self, unit: str) -> UnitCost:
        cost = self._costs.get(unit, _ORDINARY)
        return self._tallies[unit].correct(cost) if unit in self._tallies else cost

    def _measure(self, node: WorkerController, index: int, seconds: float) -> None:
        assert self._collection is not None
        unit = self._unit_of(index)
        if unit not in self._costs or self._collection[index] in self._disregarded:
            return
        gateway = is_gateway(self._names[index], target_of(unit))
        cold = (node, unit) in self._cold_units
        tally = self._tallies.setdefault(unit, Tally())
        tally.count(seconds, node.gateway.id, gateway=gateway, cold=cold)

    def _report_difference(
        self, node: WorkerController, found: Sequence[str], expected: Sequence[str]
    ) -> None:
        from xdist.report import report_collection_diff

        other = next(iter(self._collections))
        text = report_collection_diff(expected, found, other.gateway.id, node.gateway.id)
        report = pytest.CollectReport(
            nodeid=node.gateway.id, outcome="failed", longrepr=text or "", result=[]
        )
        self.config.hook.pytest_collectreport(report=report)


def _is_absent(target: str) -> bool:
    """Whether no item of a target of this name can run here, told without loading anything."""
    from pytest_aprqa.domain.case import Target
    from pytest_aprqa.domain.model import Backend, Format, Quantization
    from pytest_aprqa.engines.choice import why_unavailable

    for format_ in Format:
        for quantization in (None, *Quantization):
            for backend in Backend:
                parsed = Target("", format_, quantization, backend)
                if parsed.name == target:
                    return why_unavailable(parsed) is not None
    return False  # conversions, and names that are not ours
