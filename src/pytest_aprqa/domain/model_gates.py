"""What a target must prove beside its scenarios: a gate for each claim, an item of its own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pytest_aprqa.domain.case import Target
from pytest_aprqa.domain.evidence import Check
from pytest_aprqa.domain.gate import Gate, Place
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
    def gate_id(self) -> str:
        """The gate's id among all falsification gates."""
        return _IDS[self]

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
_IDS = {
    ModelGate.BATCHED: "F-INV-BATCH-001",
    ModelGate.PARITY: "F-ENDPOINT-PARITY-001",
}

TargetGate = ServeGate | ModelGate | Gate
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
        if isinstance(self.gate, Gate):
            return Check.GATE
        return Check.SERVE if isinstance(self.gate, ServeGate) else Check.MODEL

    @property
    def gate_id(self) -> str:
        """The gate's id in the registry."""
        return self.gate.id if isinstance(self.gate, Gate) else self.gate.gate_id

    @property
    def modality(self) -> Modality | None:
        """A server's gates are asked over HTTP; the others are of no modality."""
        gate = self.gate
        of_server = gate.place is Place.SERVER if isinstance(gate, Gate) else None
        asked = isinstance(gate, ServeGate) if of_server is None else of_server
        return Modality.SERVE if asked else None


MODEL = "model"
"""What the node of the gates about the ground truth's files is named."""


@dataclass(frozen=True, slots=True)
class ModelCase:
    """One gate about the ground truth's files: what its item is about."""

    gate: Gate

    @property
    def item_name(self) -> str:
        """The item's name, such as `F-INT-003-model`."""
        return f"{self.gate.item_name}-{MODEL}"
