"""The part of a unit that one worker holds: what goes out next, and what another may take."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_aprqa.plugin.costs import is_gateway, target_of


def is_served(name: str) -> bool:
    """Whether an item asks the target's server: all that do stay in the server's worker."""
    return name.startswith("serve_") or name.endswith("-serve")


@dataclass(slots=True)
class Share:
    """Items of one unit that wait for one worker, as indices into the collection, in order."""

    unit: str
    rest: deque[int]
    splits: bool = True
    """Whether another worker may take a part: of a playbook's units, not of ordinary tests."""
    serves: bool = False
    """Whether an item that asks the server has gone out: the others then must follow it."""

    def next_piece(self, count: int, names: Sequence[str]) -> list[int]:
        """Take out the next items, at most `count`."""
        piece = [self.rest.popleft() for _ in range(min(count, len(self.rest)))]
        self.serves = self.serves or any(is_served(names[index]) for index in piece)
        return piece

    def offer(self, wanted: int, names: Sequence[str]) -> list[int]:
        """The last items that may leave, about `wanted` of them, in order.

        Gateways stay. Items that ask the server leave together or not at all.
        """
        target = target_of(self.unit)
        free = [
            index
            for index in self.rest
            if not is_gateway(names[index], target)
            and not (self.serves and is_served(names[index]))
        ]
        cut = max(0, len(free) - wanted)
        served = [place for place, index in enumerate(free) if is_served(names[index])]
        if served and served[0] < cut <= served[-1]:
            before, behind = served[0], served[-1] + 1
            cut = before if cut - before <= behind - cut else behind
        return free[cut:]

    def give(self, items: Sequence[int]) -> Share:
        """Hand over items that were on offer, as a share of their own."""
        gone = set(items)
        self.rest = deque(index for index in self.rest if index not in gone)
        return Share(self.unit, deque(items))


def shutdown_last(indices: Sequence[int], names: Sequence[str]) -> list[int]:
    """The indices in order, those of items `serve_shutdown…` behind all others."""
    return sorted(indices, key=lambda index: names[index].startswith("serve_shutdown"))
