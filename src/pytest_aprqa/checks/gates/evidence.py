"""A gate's finding as evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pytest_aprqa.checks.gates.lab import Lab
from pytest_aprqa.checks.gates.running import examine
from pytest_aprqa.checks.scenario import ending_of
from pytest_aprqa.domain.evidence import Check, Evidence, Outcome, VerdictRecord
from pytest_aprqa.domain.model import Format
from pytest_aprqa.domain.model_gates import MODEL, ModelCase
from pytest_aprqa.domain.verdict import Ruling
from pytest_aprqa.engines.engine import EngineCrashed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_aprqa.checks.finding import Finding
    from pytest_aprqa.checks.gates.family import GateCheck

L = TypeVar("L", bound=Lab)

OUTCOMES: Mapping[Ruling, Outcome] = {
    Ruling.CORROBORATED: Outcome.CORROBORATED,
    Ruling.FALSIFIED: Outcome.FALSIFIED,
    Ruling.INCONCLUSIVE: Outcome.INCONCLUSIVE,
    Ruling.INAPPLICABLE: Outcome.SKIPPED,
}
"""What a ruling makes of its item."""


def blank_model_gate(case: ModelCase, item_id: str, outcome: Outcome, reason: str) -> Evidence:
    """Evidence of a gate about the ground truth's files that was not asked."""
    return Evidence(
        id=item_id,
        check=Check.GATE,
        target=MODEL,
        format=Format.SAFETENSORS,
        quantization=None,
        backend=None,
        modality=None,
        scenario=case.gate.item_name,
        gate=case.gate.id,
        category=case.gate.category,
        severity=case.gate.severity,
        outcome=outcome,
        reason=reason,
        question=case.gate.assertion,
    )


def try_registered(
    check: GateCheck[L], lab: L, blank: Evidence, engine: Mapping[str, str] | None = None
) -> Evidence:
    """Put a gate to its lab; every way it can end is an outcome.

    `blank` is its evidence before anything is known; `engine` what ran.

    Raises:
        AprqaError: the set-up is wrong.
    """
    try:
        finding = examine(check, lab)
    except EngineCrashed as crash:
        where = crash.traceback_tail.strip("\n")
        return blank.model_copy(
            update={**ending_of(crash), "diagnosis": where, "engine": dict(engine or {})}
        )
    return evidence_of(finding, check.gate.id, blank, engine)


def evidence_of(
    finding: Finding, gate_id: str, blank: Evidence, engine: Mapping[str, str] | None = None
) -> Evidence:
    """The evidence that a finding is; one without a meaning is skipped with an excuse."""
    no_meaning = finding.ruling is Ruling.INAPPLICABLE
    verdict = VerdictRecord(oracle=gate_id, ruling=finding.ruling, reason=finding.reason)
    return blank.model_copy(
        update={
            "outcome": OUTCOMES[finding.ruling],
            "reason": finding.reason,
            "excused": no_meaning,
            "applicable": not no_meaning,
            "output": "\n".join(finding.details),
            "verdicts": (verdict,),
            "measurements": dict(finding.measurements),
            "culprit": finding.culprit,
            "engine": dict(engine or {}),
        }
    )
