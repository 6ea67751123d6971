"""The gates about trace levels are seen to fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_aprqa.checks.gates.inside.layers_proofs import HEALTHY, retold
from pytest_aprqa.checks.gates.proof import Proof
from pytest_aprqa.domain.trace import ModuleTrace, Role, TraceLevel


def _at(level: TraceLevel, **changes: Any) -> Any:
    """A change of what is told at one level."""

    def change(found: Any) -> Any:
        if found.trace.level is not level:
            return found
        return replace(found, trace=replace(found.trace, **changes))

    return change


def _without(name: str) -> Any:
    def change(found: Any) -> Any:
        arrays = {key: array for key, array in found.arrays.items() if key != name}
        return replace(found, arrays=arrays)

    return change


def _rounded(found: Any) -> Any:
    """A hook that gives a layer's output back rounded, so that the logits are others."""
    if found.trace.level is not TraceLevel.LAYER:
        return found
    logits = (found.arrays["logits"] * 8).round() / 8
    return replace(found, arrays={**found.arrays, "logits": logits})


_STRAY = ModuleTrace("model.norm", "Qwen2RMSNorm", Role.FINAL_NORM, None, (1, 7, 256), 1e-4)

PROOFS = (
    Proof(
        "F-TRACELEVEL-001",
        "level none records a module",
        lambda bench: retold(bench, _at(TraceLevel.NONE, modules=(_STRAY,))),
        HEALTHY,
    ),
    Proof(
        "F-TRACELEVEL-002",
        "level basic names one module only",
        lambda bench: retold(bench, _at(TraceLevel.BASIC, modules=(_STRAY,))),
        HEALTHY,
    ),
    Proof(
        "F-TRACELEVEL-003",
        "level layer tells of no layer",
        lambda bench: retold(bench, _at(TraceLevel.LAYER, residuals=())),
        HEALTHY,
    ),
    Proof(
        "F-TRACELEVEL-004",
        "level payload has no hidden states",
        lambda bench: retold(bench, _without("hidden")),
        HEALTHY,
    ),
    Proof(
        "F-TRACELEVEL-005",
        "a hook that rounds what it sees",
        lambda bench: retold(bench, _rounded),
        HEALTHY,
    ),
)
