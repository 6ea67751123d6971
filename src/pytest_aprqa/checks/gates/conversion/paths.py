"""The conversions of a playbook as gates: one for each claim and each path of formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.checks.conversion import try_conversion
from pytest_aprqa.checks.finding import Finding, held, refuted, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import Lab
from pytest_aprqa.domain.conversions import ConversionCase, ConversionKind, conversions_of
from pytest_aprqa.domain.evidence import Outcome
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Format, Severity

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_aprqa.checks.conversion_bench import ConversionBench


class ConversionLab(Lab):
    """One conversion, and the bench that it is tried on."""

    def __init__(self, case: ConversionCase, bench: ConversionBench) -> None:
        super().__init__()
        self.case = case
        self.bench = bench


PATHS: Family[ConversionLab] = Family(
    domain="conversion", place=Place.CONVERSION, cost=Cost.LOGITS, rung=Rung.TENSOR
)
_CLAIMS = {
    ConversionKind.DIRECT: "{1} made of {0} holds what {0} does, and answers as it does.",
    ConversionKind.ROUND_TRIP: "{0} over {1} and back is {0} again, and a second trip as well.",
    ConversionKind.CHAIN: "{0} over {1} and {2} and back is {0} again.",
    ConversionKind.IDEMPOTENT: "{1} made of {0} twice is the same, byte for byte.",
    ConversionKind.COMMUTES: "{2} made of {0} over {1} is {2} made of {0}.",
    ConversionKind.GOLDEN: "{1} made of {0} gives its greedy answers, and never nothing.",
}
CASES = conversions_of(tuple(Format), ())
"""Every conversion between the three formats, of the weights as they are published."""


def _decided_by(case: ConversionCase) -> Callable[[ConversionLab], Finding]:
    def check(lab: ConversionLab) -> Finding:
        asked = lab.case
        if (asked.kind, asked.path) != (case.kind, case.path):
            return without_meaning(f"the conversion is {asked.item_name}")
        found = try_conversion(asked, lab.bench, "")
        if found.outcome is Outcome.CORROBORATED:
            return held(found.reason, measured=found.measurements)
        return refuted(found.reason, culprit=found.culprit, measured=found.measurements)

    return check


for _case in CASES:
    PATHS.gate(_case.gate_id, _CLAIMS[_case.kind].format(*_case.path), severity=Severity.P0)(
        _decided_by(_case)
    )

FAMILIES = (PATHS,)
ALIASES = {
    "F-CONV-001": "F-CONV-G-A",
    "F-CONV-002": "F-CONV-A-G",
    "F-CONV-003": "F-CONV-G-S",
    "F-CONV-005": "F-CONV-A-S",
    "F-CONV-006": "F-CONV-S-A",
    "F-CONV-RT-001": "F-CONV-CHAIN-G-A-S",
    "F-CONV-RT-002": "F-CONV-CHAIN-S-A-G",
    "F-CONV-IDEM-001": "F-CONV-IDEM-G-A",
    "F-CONV-COM-001": "F-CONV-COM-G-S-A",
    "F-CONV-012": "F-CONV-RT-S-A",
    "F-CONV-RT-BYTE-001": "F-CONV-CHAIN-A-G-S",
    "F-GOLDEN-RULE-001": "F-GOLDEN-RULE-A",
    "F-INT-004": "F-CONV-RT-S-G",
    "G0-FORMAT-APR-001": "F-CONV-S-A",
    "G0-FORMAT-GGUF-001": "F-CONV-S-G",
    "F-GOLDEN-RULE-002": "F-CONV-S-A",
    "F-GOLDEN-RULE-003": "F-GOLDEN-RULE-A",
}
