"""The conditions of a playbook as evidence: planned like items, decided when all others are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_aprqa.domain.conditions.evaluation import conclude
from pytest_aprqa.domain.evidence import (
    Check,
    Evidence,
    Outcome,
    PlannedScenario,
    RunRecord,
    VerdictRecord,
)
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.sections import FalsificationGate
from pytest_aprqa.domain.verdict import Ruling

RUN = "run"
"""What conditions have where others have a target's name."""
_OUTCOMES = {
    Ruling.CORROBORATED: Outcome.CORROBORATED,
    Ruling.FALSIFIED: Outcome.FALSIFIED,
    Ruling.INAPPLICABLE: Outcome.SKIPPED,
}


def condition_id(gate: FalsificationGate, file_id: str) -> str:
    """The id of a condition's evidence, formed as a node id is."""
    return f"{file_id}::{RUN}::{gate.id}"


def planned_conditions(
    gates: Sequence[FalsificationGate], file_id: str
) -> Iterator[PlannedScenario]:
    """The conditions as the plan owes them."""
    for gate in gates:
        yield PlannedScenario(
            id=condition_id(gate, file_id),
            check=Check.CONDITION,
            target=RUN,
            backend=None,
            format=None,
            modality=None,
            scenario=gate.id,
            gate=gate.id,
            condition=gate.condition,
            category=category_of(gate.id),
            severity=gate.severity,
        )


def category_of(gate_id: str) -> Category:
    """The category that an id such as `F-PERF-001` names; QUAL where it names none."""
    word = gate_id.split("-")[1] if gate_id.count("-") else ""
    return Category(word) if word in Category.__members__ else Category.QUAL


def conclusions(record: RunRecord) -> tuple[Evidence, ...]:
    """What every condition of the plan comes to on the record's other evidence."""
    return tuple(
        _conclusion(entry, record)
        for entry in record.plan.scenarios
        if entry.check is Check.CONDITION
    )


def _conclusion(entry: PlannedScenario, record: RunRecord) -> Evidence:
    found = conclude(entry.condition, record)
    no_meaning = found.ruling is Ruling.INAPPLICABLE
    verdict = VerdictRecord(oracle="condition", ruling=found.ruling, reason=found.reason)
    return Evidence(
        id=entry.id,
        check=Check.CONDITION,
        target=RUN,
        format=None,
        quantization=None,
        backend=None,
        modality=None,
        scenario=entry.scenario,
        gate=entry.gate,
        category=entry.category,
        severity=entry.severity,
        outcome=_OUTCOMES[found.ruling],
        reason=found.reason,
        excused=no_meaning,
        applicable=not no_meaning,
        question=entry.condition,
        verdicts=(verdict,),
        timestamp=record.finished,
    )
