"""The root cause of what a run refuted: what lies nearest to the bytes explains the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_aprqa.domain.evidence import Check, Evidence, Outcome, RunRecord
from pytest_aprqa.domain.gate import Rung
from pytest_aprqa.domain.gateways import Gateway, GatewayResult
from pytest_aprqa.domain.model import Severity

REFUTED = (Outcome.FALSIFIED, Outcome.TIMEOUT, Outcome.CRASHED)
_GATEWAY_RUNGS = {
    Gateway.G0: Rung.FILE,
    Gateway.G1: Rung.TENSOR,
    Gateway.G2: Rung.TEXT,
    Gateway.G3: Rung.TEXT,
    Gateway.G4: Rung.TEXT,
}
_CHECK_RUNGS = {
    Check.SCENARIO: Rung.TEXT,
    Check.CONVERSION: Rung.TENSOR,
    Check.SERVE: Rung.SERVER,
    Check.MODEL: Rung.LOGITS,
    Check.CONDITION: Rung.SPEED,
}
_SEVERITIES = list(Severity)


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that a run refuted, and where it stands among the causes."""

    name: str
    """The item's or the gateway's name."""
    culprit: str
    """The tensor, layer or file to blame; empty where it could not be told."""
    reason: str
    rung: Rung

    def __str__(self) -> str:
        blamed = self.culprit and self.culprit not in self.reason
        return f"{self.culprit}: {self.reason}" if blamed else self.reason


def causes(record: RunRecord) -> tuple[Cause, ...]:
    """All that the run refuted, the nearest to the root first.

    By rung: bytes, tensors, tokens, templates, logits, texts, servers, speed. Of one rung, those
    that name their culprit come first, then the more severe, then as planned.
    """
    rungs = {entry.id: entry.rung for entry in record.plan.scenarios}
    found = [
        *(_of_gateway(result) for result in record.gateways if not result.passed),
        *_of_items(record, rungs),
    ]
    return tuple(cause for _, cause in sorted(found, key=lambda pair: pair[0]))


def _of_gateway(result: GatewayResult) -> tuple[tuple[int, bool, int], Cause]:
    rung = _GATEWAY_RUNGS[result.gateway]
    name = f"{result.gateway} of {result.target}"
    return (rung, False, 0), Cause(name, "", result.reason, rung)


def _of_items(
    record: RunRecord, rungs: dict[str, int | None]
) -> Iterator[tuple[tuple[int, bool, int], Cause]]:
    for item in record.evidence:
        if item.outcome in REFUTED:
            rung = _rung_of(item, rungs.get(item.id))
            name = item.id.rsplit("::", 1)[-1]
            cause = Cause(name, item.culprit, item.reason, rung)
            yield (rung, not item.culprit, _SEVERITIES.index(item.severity)), cause


def _rung_of(item: Evidence, planned: int | None) -> Rung:
    return _CHECK_RUNGS.get(item.check, Rung.TEXT) if planned is None else Rung(planned)
