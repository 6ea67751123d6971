"""Every gate of the registry is seen to fail on a planted defect, and to pass a healthy case."""

from __future__ import annotations

from collections import Counter

import pytest

from pytest_aprqa.checks.gates.proof import Proof, ProofBench
from pytest_aprqa.checks.gates.proving import plant, try_healthy
from pytest_aprqa.checks.gates.registry import aliases, checks, gates, proofs
from pytest_aprqa.domain.verdict import Ruling

PROMISED = 217
_BY_GATE = [pytest.param(proof, id=proof.gate) for proof in proofs()]


def test_the_registry_holds_what_was_promised() -> None:
    assert len(gates()) >= PROMISED


def test_every_gate_has_its_proofs() -> None:
    proven = Counter(proof.gate for proof in proofs())

    assert sorted(checks()) == sorted(proven)


def test_every_claim_is_a_sentence_of_its_own() -> None:
    said = Counter(gate.assertion for gate in gates())

    assert [text for text, times in said.items() if times > 1] == []


def test_an_alias_stands_for_a_gate_and_is_none() -> None:
    assert [a for a, gate in aliases().items() if a in checks() or gate not in checks()] == []


@pytest.mark.parametrize("proof", _BY_GATE)
def test_a_planted_defect_falsifies_exactly_its_gate(proof: Proof, bench: ProofBench) -> None:
    planted = plant(proof, bench)

    told = {gate: planted.found[gate].reason for gate in planted.fallen}
    assert planted.exact, told or planted.finding
    assert planted.finding.reason


@pytest.mark.parametrize("proof", _BY_GATE)
def test_a_healthy_case_corroborates_it(proof: Proof, bench: ProofBench) -> None:
    finding = try_healthy(proof, bench)

    assert finding.ruling is Ruling.CORROBORATED, finding.reason
