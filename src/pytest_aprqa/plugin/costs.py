"""What a unit of work costs: guessed from names, known from earlier runs, corrected by this one.

A unit is what one worker loads once: all items of `file::target`, or of `file::conversion`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from pytest_aprqa.domain.conversions import CONVERSION
from pytest_aprqa.domain.gateways import Gateway, gateway_item_name
from pytest_aprqa.domain.model_gates import MODEL

TORCH_START_S = 2.5
"""Seconds that a process takes to import torch and transformers, once: measured on two cores."""
_ABSENT_ITEM_S = 0.001
"""Seconds of an item that only skips."""
_SERVE_GATE_S = 0.5
"""Seconds of an item `serve_…`, which asks a server more than once."""
_GUESS_WEIGHT = 2
"""How many measured items a guess from names counts for."""
_KNOWN_WEIGHT = 20
"""How many measured items an earlier run counts for, at most."""


@dataclass(frozen=True, slots=True)
class UnitCost:
    """Seconds that a unit takes: `load_s` before its first item, then `item_s` for each."""

    load_s: float
    """In a process that has imported torch already, if the unit needs it."""
    item_s: float
    needs_torch: bool = False
    weight: int = _GUESS_WEIGHT
    """How many measured items this estimate outweighs."""

    def load_in(self, *, warm: bool) -> float:
        """Seconds of loading in a process; a warm one has imported torch."""
        return self.load_s + (TORCH_START_S if self.needs_torch and not warm else 0.0)

    def total(self, items: int) -> float:
        """Seconds of a whole unit of so many items in a new process."""
        return self.load_in(warm=False) + items * self.item_s


@dataclass(frozen=True, slots=True)
class Timing:
    """What an earlier run measured of a unit: its items after loading, and the loading."""

    items: int
    seconds: float
    load_s: float


_GUESSES = {
    # The 92 conversions of a model of 4 MB took 20 s, the 43 items of its targets 1 s for
    # safetensors and APR and 0.25 s for GGUF; both sides grow with the model.
    CONVERSION: UnitCost(1.0, 0.25, needs_torch=True),
    "safetensors": UnitCost(1.0, 0.05, needs_torch=True),
    "apr": UnitCost(1.0, 0.05, needs_torch=True),
    "gguf": UnitCost(0.5, 0.02),
    # Its gates read the same weights, so most of it is in the first few of them.
    MODEL: UnitCost(1.0, 0.03),
}
_OTHER = UnitCost(1.0, 0.05)


def estimate(
    unit: str,
    names: Sequence[str],
    known: Mapping[str, Timing],
    *,
    absent: bool = False,
) -> UnitCost:
    """The cost of a unit: as an earlier run measured it, else by what its names say.

    Args:
        unit: `file::target`.
        names: The names of its items.
        known: What earlier runs measured, by unit.
        absent: Whether the machine lacks the unit's device, so that its items only skip.
    """
    if absent:
        return UnitCost(0.0, _ABSENT_ITEM_S)
    target = target_of(unit)
    format_ = target.split("-")[0]
    guess = _GUESSES.get(format_, _OTHER)
    on_torch = guess.needs_torch or (format_ == "gguf" and target.endswith("-gpu"))
    timing = known.get(unit)
    if timing is not None and timing.items > 0:
        item_s = max(timing.seconds / timing.items, _ABSENT_ITEM_S)
        return UnitCost(timing.load_s, item_s, on_torch, min(timing.items, _KNOWN_WEIGHT))
    asked = [name for name in names if not is_gateway(name, target)]
    seconds = [_SERVE_GATE_S if name.startswith("serve_") else guess.item_s for name in asked]
    item_s = sum(seconds) / len(seconds) if seconds else guess.item_s
    return UnitCost(guess.load_s, item_s, on_torch)


def target_of(unit: str) -> str:
    """The target's name in a unit `file::target`."""
    return unit.rsplit("::", 1)[-1]


def is_gateway(name: str, target: str) -> bool:
    """Whether an item of this name is one of the target's gateways."""
    return name in _gateway_names(target)


@cache
def _gateway_names(target: str) -> frozenset[str]:
    return frozenset(gateway_item_name(gateway, target) for gateway in Gateway)


@dataclass(slots=True)
class Tally:
    """Measures a unit while it runs, in whichever workers.

    The gateways are its loading; in a worker that runs none of them, its first item is.
    """

    items: int = 0
    seconds: float = 0.0
    _loads: dict[str, float] = field(default_factory=dict)

    def count(self, seconds: float, worker: str, *, gateway: bool, cold: bool) -> None:
        """Count an item in; `cold` when the worker had to import torch for its first one."""
        if worker not in self._loads:
            self._loads[worker] = max(0.0, seconds - (TORCH_START_S if cold else 0.0))
        elif gateway:
            self._loads[worker] += seconds
        else:
            self.items += 1
            self.seconds += seconds

    def timing(self) -> Timing | None:
        """What was measured; None before the first item after loading is done."""
        if self.items == 0:
            return None
        return Timing(self.items, self.seconds, max(self._loads.values()))

    def correct(self, cost: UnitCost) -> UnitCost:
        """The estimate in the light of what was measured so far."""
        if not self._loads:
            return cost
        load_s = max(self._loads.values())
        if self.items == 0:
            return UnitCost(max(load_s, cost.load_s), cost.item_s, cost.needs_torch, cost.weight)
        counted = cost.weight + self.items
        item_s = (cost.weight * cost.item_s + self.seconds) / counted
        return UnitCost(load_s, item_s, cost.needs_torch, counted)
