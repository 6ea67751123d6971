"""Scheduling under xdist: a target's items stay together in one worker, and crashes lose nothing.

xdist's own loadscope hands out the next scope too early and, in 3.8, runs a crashed item again or
hangs (xdist#1323, #1327, #1378). This is the whole `Scheduling` protocol, on public names only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pytest_aprqa.plugin.arguments import playbooks_named
from pytest_aprqa.plugin.hooks import PLAYBOOK_SUFFIX

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController


def scheduler_for(config: pytest.Config, log: Any) -> TargetScheduling | None:
    """Our scheduler for runs with playbooks in the modes `load` and `loadscope`; else xdist's."""
    mode = config.getvalue("dist")
    if mode not in ("load", "loadscope") or not any(playbooks_named(config)):
        return None
    from xdist.workermanage import parse_tx_spec_config

    return TargetScheduling(config, len(parse_tx_spec_config(config)), scoped=mode == "loadscope")


class TargetScheduling:
    """Hands out whole targets; ordinary tests one by one, or by scope with `--dist loadscope`.

    A worker runs an item only once it knows the next one or is told to shut down, so each is
    given more work while it still holds one item, and shut down when there is none left.
    """

    def __init__(self, config: pytest.Config, workers: int, *, scoped: bool) -> None:
        self.config = config
        self._workers = workers
        self._scoped = scoped
        self._collections: dict[WorkerController, list[str]] = {}
        self._pending: dict[WorkerController, deque[int]] = {}
        self._queue: deque[list[int]] = deque()
        self._collection: list[str] | None = None

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
            and not self._queue
            and all(len(pending) < 2 for pending in self._pending.values())
        )

    @property
    def has_pending(self) -> bool:
        """Whether anything waits or runs."""
        return bool(self._queue) or any(self._pending.values())

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
        self._top_up(node)

    def mark_test_pending(self, item: str) -> None:
        """Run an item again, as retry plugins ask."""
        assert self._collection is not None
        self._queue.appendleft([self._collection.index(item)])
        for node in self.nodes:
            self._top_up(node)

    def remove_pending_tests_from_node(
        self, node: WorkerController, indices: Sequence[int]
    ) -> None:
        """Never called: no work is stolen back from a worker."""
        raise NotImplementedError("this scheduler steals no work")

    def remove_node(self, node: WorkerController) -> str | None:
        """A worker is gone; gives the item it died in, and hands the rest to others.

        Raises:
            KeyError: for a worker that took no part.
        """
        pending = self._pending.pop(node)
        collected = self._collections.pop(node, None)
        if not pending or collected is None:
            return None
        crashed = collected[pending.popleft()]
        for unit in reversed(list(_units(list(pending), collected, scoped=self._scoped))):
            self._queue.appendleft(unit)
        for other in self.nodes:
            self._top_up(other)
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
            indices = list(range(len(self._collection)))
            self._queue.extend(_units(indices, self._collection, scoped=self._scoped))
        for node in self.nodes:
            self._top_up(node)

    def _top_up(self, node: WorkerController) -> None:
        if node.shutting_down or node not in self._collections or self._collection is None:
            return
        pending = self._pending[node]
        while self._queue and len(pending) < 2:
            unit = self._queue.popleft()
            pending.extend(unit)
            node.send_runtest_some(unit)
        if not self._queue:
            node.shutdown()

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


def _units(
    indices: Sequence[int], collection: Sequence[str], *, scoped: bool
) -> Iterator[list[int]]:
    """What is handed out together, in collection order."""
    units: dict[str, list[int]] = {}
    for index in indices:
        units.setdefault(_scope(collection[index], scoped=scoped), []).append(index)
    yield from units.values()


def _scope(node_id: str, *, scoped: bool) -> str:
    if f"{PLAYBOOK_SUFFIX}::" in node_id or scoped:
        return node_id.rsplit("::", 1)[0]
    return node_id
