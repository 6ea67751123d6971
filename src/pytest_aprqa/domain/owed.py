"""What each item of a plan owes, as it stands in evidence: with node ids under the playbook's."""

from __future__ import annotations

from pytest_aprqa.domain.case import Case
from pytest_aprqa.domain.conversions import CONVERSION, ConversionCase
from pytest_aprqa.domain.evidence import Check, PlannedScenario
from pytest_aprqa.domain.gate import Gate
from pytest_aprqa.domain.gate_ids import gate_id
from pytest_aprqa.domain.model import Format
from pytest_aprqa.domain.model_gates import MODEL, GateCase, ModelCase


def planned_case(case: Case, file_id: str) -> PlannedScenario:
    """A scenario as the plan owes it."""
    return PlannedScenario(
        id=f"{file_id}::{case.target.name}::{case.item_name}",
        target=case.target.name,
        backend=case.target.backend,
        format=case.target.format,
        modality=case.modality,
        scenario=case.scenario,
        gate=gate_id(case.modality, case.target.backend),
        category=case.category,
        severity=case.severity,
    )


def planned_gate(case: GateCase, file_id: str) -> PlannedScenario:
    """A gate of a target as the plan owes it."""
    return PlannedScenario(
        id=f"{file_id}::{case.target.name}::{case.item_name}",
        check=case.check,
        target=case.target.name,
        backend=case.target.backend,
        format=case.target.format,
        modality=case.modality,
        scenario=case.gate.item_name,
        gate=case.gate_id,
        rung=case.gate.rung if isinstance(case.gate, Gate) else None,
        category=case.gate.category,
        severity=case.gate.severity,
    )


def model_gate_id(case: ModelCase, file_id: str) -> str:
    """The node id of the item of a gate about the ground truth's files."""
    return f"{file_id}::{MODEL}::{case.item_name}"


def planned_model_gate(case: ModelCase, file_id: str) -> PlannedScenario:
    """A gate about the ground truth's files as the plan owes it."""
    return PlannedScenario(
        id=model_gate_id(case, file_id),
        check=Check.GATE,
        target=MODEL,
        backend=None,
        format=Format.SAFETENSORS,
        modality=None,
        scenario=case.gate.item_name,
        gate=case.gate.id,
        rung=case.gate.rung,
        category=case.gate.category,
        severity=case.gate.severity,
    )


def conversion_id(case: ConversionCase, file_id: str) -> str:
    """The node id of a conversion's item."""
    return f"{file_id}::{CONVERSION}::{case.item_name}"


def planned_conversion(case: ConversionCase, file_id: str) -> PlannedScenario:
    """A conversion as the plan owes it."""
    return PlannedScenario(
        id=conversion_id(case, file_id),
        check=Check.CONVERSION,
        target=CONVERSION,
        backend=None,
        format=case.path[-1],
        modality=None,
        scenario=case.item_name,
        gate=case.gate_id,
        category=case.category,
        severity=case.severity,
    )
