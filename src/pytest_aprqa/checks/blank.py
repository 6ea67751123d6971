"""Evidence of an item before anything is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.checks.conversion_evidence import blank_conversion
from pytest_aprqa.checks.gates.evidence import blank_model_gate
from pytest_aprqa.checks.scenario import blank_evidence, ending_of
from pytest_aprqa.domain.case import Case
from pytest_aprqa.domain.conversions import ConversionCase
from pytest_aprqa.domain.evidence import Evidence, Outcome
from pytest_aprqa.domain.model_gates import GateCase, ModelCase

if TYPE_CHECKING:
    from pytest_aprqa.engines.engine import Engine, EngineCrashed

Owed = Case | GateCase | ConversionCase | ModelCase
"""What an item that owes evidence is about."""


def blank(case: Owed, item_id: str, outcome: Outcome, reason: str) -> Evidence:
    """Evidence of an item that was not asked: skipped, blocked, or gone with its process."""
    if isinstance(case, ConversionCase):
        return blank_conversion(case, item_id, outcome, reason)
    if isinstance(case, ModelCase):
        return blank_model_gate(case, item_id, outcome, reason)
    if isinstance(case, GateCase):
        return blank_gate(case, item_id, outcome, reason)
    return blank_evidence(case, item_id, outcome, reason)


def crashed(blank: Evidence, crash: EngineCrashed, engine: Engine) -> Evidence:
    """Evidence of an item in which the engine broke: where it was is its diagnosis."""
    return blank.model_copy(
        update={
            **ending_of(crash),
            "diagnosis": crash.traceback_tail.strip("\n"),
            "engine": dict(engine.describe()),
        }
    )


def blank_gate(case: GateCase, item_id: str, outcome: Outcome, reason: str) -> Evidence:
    """Evidence of a gate that was not asked, or about which no more is known."""
    return Evidence(
        id=item_id,
        check=case.check,
        target=case.target.name,
        format=case.target.format,
        quantization=case.target.quantization,
        backend=case.target.backend,
        modality=case.modality,
        scenario=case.gate.item_name,
        gate=case.gate_id,
        category=case.gate.category,
        severity=case.gate.severity,
        outcome=outcome,
        reason=reason,
        question=case.gate.assertion,
    )
