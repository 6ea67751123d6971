"""What a target must prove beside its scenarios: a gate for each claim, an item of its own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pytest_aprqa.domain.case import Target
from pytest_aprqa.domain.evidence import Check
from pytest_aprqa.domain.model import Modality, Severity
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.serve import ServeGate


class ModelGate(StrEnum):
    """A claim about a target's answers, an item of its own."""

    BATCHED = "batched_equals_alone"
    PARITY = "endpoint_parity"

    @property
    def assertion(self) -> str:
        """The one sentence the gate asserts."""
        return _ASSERTIONS[self]

    @property
    def item_name(self) -> str:
        """The gate's part of its item's name."""
        return str(self)

    @property
    def severity(self) -> Severity:
        """P0 where another model would answer than the one that is named, else P1."""
        return Severity.P0 if self is ModelGate.PARITY else Severity.P1

    @property
    def category(self) -> Category:
        """The part of the score the gate counts for."""
        return Category.COMP


_ASSERTIONS = {
    ModelGate.BATCHED: "answers generated together are those generated alone, but for near ties",
    ModelGate.PARITY: "the endpoint's probabilities are those of the local ground truth",
}

TargetGate = ServeGate | ModelGate
"""A gate that is an item of its own below a target."""


@dataclass(frozen=True, slots=True)
class GateCase:
    """One gate of one target: what its item is about."""

    gate: TargetGate
    target: Target

    @property
    def item_name(self) -> str:
        """The item's name, such as `serve_health-gguf-q8_0-cpu`."""
        return f"{self.gate.item_name}-{self.target.name}"

    @property
    def check(self) -> Check:
        """What kind of evidence it gives."""
        return Check.SERVE if isinstance(self.gate, ServeGate) else Check.MODEL

    @property
    def modality(self) -> Modality | None:
        """A server's gates are asked over HTTP; the others are of no modality."""
        return Modality.SERVE if isinstance(self.gate, ServeGate) else None
