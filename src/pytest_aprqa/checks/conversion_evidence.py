"""Evidence of a conversion before anything is known of it."""

from __future__ import annotations

from pytest_aprqa.domain.conversions import CONVERSION, ConversionCase
from pytest_aprqa.domain.evidence import Check, Evidence, Outcome


def blank_conversion(case: ConversionCase, item_id: str, outcome: Outcome, reason: str) -> Evidence:
    """Evidence of a conversion that was not tried, or about which no more is known."""
    return Evidence(
        id=item_id,
        check=Check.CONVERSION,
        target=CONVERSION,
        format=case.path[-1],
        quantization=case.quantization,
        backend=None,
        modality=None,
        scenario=case.item_name,
        gate=case.gate_id,
        category=case.category,
        severity=case.severity,
        outcome=outcome,
        reason=reason,
    )
