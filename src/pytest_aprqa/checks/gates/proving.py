"""See a gate fail on its planted defect, and pass its healthy case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_aprqa.checks.gates.registry import checks, family_of
from pytest_aprqa.checks.gates.running import examine
from pytest_aprqa.domain.verdict import Ruling

if TYPE_CHECKING:
    from pytest_aprqa.checks.finding import Finding
    from pytest_aprqa.checks.gates.proof import Proof, ProofBench


@dataclass(frozen=True, slots=True)
class Planted:
    """What a family's gates found where a defect was planted for one of them."""

    proof: Proof
    found: Mapping[str, Finding]

    @property
    def finding(self) -> Finding:
        """What the gate itself found."""
        return self.found[self.proof.gate]

    @property
    def fallen(self) -> frozenset[str]:
        """The gates that were falsified."""
        return frozenset(g for g, f in self.found.items() if f.ruling is Ruling.FALSIFIED)

    @property
    def exact(self) -> bool:
        """Whether the gate fell, and no other but those that cannot but see the same defect."""
        return self.fallen == {self.proof.gate, *self.proof.also}


def plant(proof: Proof, bench: ProofBench) -> Planted:
    """Put all gates of the family to the lab with the defect in it."""
    lab = proof.planted(bench)
    found = {c.gate.id: examine(c, lab) for c in family_of(proof.gate).checks}
    return Planted(proof, found)


def try_healthy(proof: Proof, bench: ProofBench) -> Finding:
    """Put the gate to its healthy case."""
    return examine(checks()[proof.gate], proof.healthy(bench))
