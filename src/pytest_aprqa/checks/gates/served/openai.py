"""The fifteen claims that each server's own items put to it, as gates of the registry."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import ServerLab
from pytest_aprqa.checks.gates.served.asking import ask
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.serve import ServeGate

if TYPE_CHECKING:
    from pytest_aprqa.checks.finding import Finding

_API = "OpenAI's API reference: /v1/completions, /v1/chat/completions, /v1/models"

ANSWERS: Family[ServerLab] = Family(
    "serve/http", Place.SERVER, Cost.SERVER, Rung.SERVER, source=_API
)
SETTINGS: Family[ServerLab] = Family(
    "serve/settings", Place.SERVER, Cost.SERVER, Rung.SERVER, source=_API
)
LEAVING: Family[ServerLab] = Family("serve/leaving", Place.SERVER, Cost.SERVER, Rung.SERVER)
COMPANY: Family[ServerLab] = Family("serve/company", Place.SERVER, Cost.SERVER, Rung.SERVER)
"""The last of it ends the server."""

FAMILIES = (ANSWERS, SETTINGS, LEAVING, COMPANY)
ALIASES = {
    "F-SERVE-001": "F-HTTP-002",
    "F-SERVE-002": "F-HTTP-002",
    "F-SERVE-003": "F-HTTP-COMPLETIONS-001",
    "F-SERVE-004": "F-HTTP-STREAM-001",
    "F-SERVE-005": "F-HTTP-004",
}
"""Ids of serving as a modality, by its first meaning where one has two."""

_MEMBERS = (
    (
        ANSWERS,
        (
            ServeGate.HEALTH,
            ServeGate.MODELS,
            ServeGate.COMPLETIONS,
            ServeGate.CHAT,
            ServeGate.STREAM,
            ServeGate.USAGE,
        ),
    ),
    (SETTINGS, (ServeGate.STOP, ServeGate.MAX_TOKENS, ServeGate.SEED, ServeGate.LOGPROBS)),
    (LEAVING, (ServeGate.DISCONNECT,)),
    (
        COMPANY,
        (
            ServeGate.CONCURRENT,
            ServeGate.ERRORS,
            ServeGate.MEMORY,
            ServeGate.SHUTDOWN,
        ),
    ),
)


def _put(gate: ServeGate, lab: ServerLab) -> Finding:
    from pytest_aprqa.checks.serve.gates import GATES

    return ask(GATES[gate], lab)


for _family, _gates in _MEMBERS:
    for _gate in _gates:
        _family.gate(
            _gate.gate_id, _gate.assertion, severity=_gate.severity, category=_gate.category
        )(partial(_put, _gate))
