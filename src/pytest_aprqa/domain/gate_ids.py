"""Which gates of the registry are asked by items of other kinds, and by which ids."""

from __future__ import annotations

from pytest_aprqa.domain.gateways import Gateway
from pytest_aprqa.domain.model import Backend, Modality
from pytest_aprqa.domain.model_gates import ModelGate
from pytest_aprqa.domain.serve import ServeGate

_CELLS = {
    (Modality.RUN, Backend.CPU): "F-A1-001",
    (Modality.RUN, Backend.GPU): "F-A2-001",
    (Modality.CHAT, Backend.CPU): "F-A3-001",
    (Modality.CHAT, Backend.GPU): "F-A4-001",
    (Modality.SERVE, Backend.CPU): "F-A5-001",
    (Modality.SERVE, Backend.GPU): "F-A6-001",
}
ORACLES = {
    "arithmetic": "F-ORACLE-001",
    "garbage": "F-ORACLE-002",
    "code_syntax": "F-ORACLE-003",
    "exact": "F-ORACLE-EXACT-001",
    "contains": "F-ORACLE-CONTAINS-001",
    "one_of": "F-ORACLE-ONEOF-001",
    "regex": "F-ORACLE-REGEX-001",
    "response": "F-ORACLE-RESPONSE-001",
    "composite": "F-ORACLE-COMPOSITE-001",
}
"""The gate of each built-in oracle, by the oracle's name in a playbook."""
NOT_BLANK = "F-ORACLE-004"
"""The gate that an empty answer refutes, whatever oracle judges it."""


def gate_id(modality: Modality, backend: Backend | None) -> str:
    """The gate that a scenario's items in such a cell are.

    Where an endpoint computes is not known: it counts as CPU, as no GPU was asked for.
    """
    return _CELLS[modality, backend or Backend.CPU]


def oracle_gate_id(oracle: str) -> str | None:
    """The gate of an oracle's verdicts; None for the oracles of other packages."""
    return ORACLES.get(oracle)


ELSEWHERE: frozenset[str] = frozenset(
    {
        *(gate.gate_id for gate in ServeGate),
        *(gateway.gate_id for gateway in Gateway),
        *(gate.gate_id for gate in ModelGate),
        *_CELLS.values(),
        *ORACLES.values(),
        NOT_BLANK,
    }
)
"""Gates that need no item of their own: an item of another kind asks each of them."""
