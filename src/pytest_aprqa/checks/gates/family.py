"""A family of gates: claims about the same kind of thing, which share what is measured of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pytest_aprqa.checks.finding import Finding
from pytest_aprqa.checks.gates.lab import Lab
from pytest_aprqa.domain.gate import GATE_ID, Cost, Gate, Place, Rung
from pytest_aprqa.domain.model import Format, Severity, Tier
from pytest_aprqa.domain.playbook import Category

L = TypeVar("L", bound=Lab)


@dataclass(frozen=True, slots=True)
class GateCheck(Generic[L]):
    """A gate and what decides it."""

    gate: Gate
    check: Callable[[L], Finding]


@dataclass(slots=True)
class Family(Generic[L]):
    """Gates of one domain, about one kind of lab; what they say in common is said once.

    A gate is added by the decorator `gate`, above the function that decides it.
    """

    domain: str
    place: Place
    cost: Cost
    rung: Rung
    category: Category = Category.COMP
    tier: Tier = Tier.MVP
    source: str = "the project's own"
    section: str = ""
    formats: frozenset[Format] = frozenset(Format)
    checks: list[GateCheck[L]] = field(default_factory=list)

    def gate(
        self,
        gate_id: str,
        assertion: str,
        *,
        severity: Severity = Severity.P1,
        applies: str = "always",
        **other: Any,
    ) -> Callable[[Callable[[L], Finding]], Callable[[L], Finding]]:
        """Add a gate that the decorated function decides.

        `other` replaces what the family says: category, cost, rung, tier, source, section, formats.

        Raises:
            ValueError: the id has not the form of one, or the family has it already.
        """
        if not GATE_ID.fullmatch(gate_id):
            raise ValueError(f"{gate_id!r} is no gate id; expected one such as F-CONV-RT-001")
        if any(known.gate.id == gate_id for known in self.checks):
            raise ValueError(f"{gate_id} is in the family {self.domain} already")
        shared = {
            name: getattr(self, name)
            for name in ("category", "cost", "rung", "tier", "source", "section", "formats")
        }
        gate = Gate(
            id=gate_id,
            domain=self.domain,
            assertion=assertion,
            severity=severity,
            place=self.place,
            applies=applies,
            **(shared | other),
        )

        def add(check: Callable[[L], Finding]) -> Callable[[L], Finding]:
            self.checks.append(GateCheck(gate, check))
            return check

        return add
