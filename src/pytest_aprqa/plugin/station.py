"""What one process knows of a target on its way through the gateways, and of an item's outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from pytest_aprqa.domain.errors import Falsified
from pytest_aprqa.domain.evidence import Evidence, ModelRecord, Outcome
from pytest_aprqa.domain.gateways import Gateway, GatewayResult
from pytest_aprqa.plugin.explain import explain, facts_of

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.checks.ahead import AheadEngine
    from pytest_aprqa.checks.gates.lab import ServerLab, TargetLab
    from pytest_aprqa.checks.gateways import ProbeAnswer
    from pytest_aprqa.checks.serve.client import KnownAnswers
    from pytest_aprqa.engines.serving.server_process import ServerProcess
    from pytest_aprqa.plugin.collector import ConversionNode, ModelNode, TargetNode
    from pytest_aprqa.plugin.items import OwingItem

_EVIDENCE = pytest.StashKey[Evidence]()
_STATION = pytest.StashKey["Station"]()


@dataclass(slots=True)
class Station:
    """One target's passage through the gateways in this process."""

    results: dict[Gateway, GatewayResult] = field(default_factory=dict)
    unreported: list[GatewayResult] = field(default_factory=list)
    """Results that no test report has carried away yet."""
    model: ModelRecord | None = None
    file: Path | None = None
    """What the engine loads: the model's directory, or the file that G0 converted it to."""
    answers: tuple[ProbeAnswer, ...] = ()
    """What the probes of G2 were answered, for G4."""
    engine: AheadEngine | None = None
    """The loaded engine, with answers that it gave ahead of who asks."""
    server: ServerProcess | None = None
    """The target's own server, once an item has asked for it."""
    known_answers: KnownAnswers = field(default_factory=dict)
    """Plain answers of the server, which its gates need not ask for again."""
    server_failure: str | None = None
    """Why there is no server; it is not tried again and again."""
    server_failure_told: bool = False
    """Whether an item has failed of it; the others are blocked."""
    lab: TargetLab | None = None
    """What the gates of the target look at, once one of them has asked."""
    server_lab: ServerLab | None = None
    """The same of its server's gates."""
    unavailable: str | None = None
    """Why this machine cannot load the target, where only loading could tell."""


def stamped(evidence: Evidence, worker: str) -> Evidence:
    """The evidence with the worker that gathered it (`main` without xdist) and the time, UTC."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return evidence.model_copy(update={"worker": worker, "timestamp": now})


def station_of(node: TargetNode | ConversionNode | ModelNode) -> Station:
    """The target's station, empty at first."""
    return node.stash.setdefault(_STATION, Station())


def note(item: OwingItem, evidence: Evidence) -> None:
    """Keep an item's evidence for its report, and its facts for JUnit."""
    item.stash[_EVIDENCE] = evidence
    item.user_properties += facts_of(evidence)


def conclude(item: OwingItem, evidence: Evidence) -> None:
    """Note an item's evidence, and end the item as its outcome says.

    Raises:
        Falsified: the outcome is no pass.
    """
    note(item, evidence)
    if evidence.outcome in (Outcome.SKIPPED, Outcome.BLOCKED):
        pytest.skip(evidence.reason)
    if evidence.outcome is Outcome.INCONCLUSIVE:
        pytest.skip(f"inconclusive: {evidence.reason}")
    if evidence.outcome is not Outcome.CORROBORATED:
        raise Falsified(explain(evidence))


def noted(item: OwingItem) -> Evidence | None:
    """The evidence that was noted for an item."""
    return item.stash.get(_EVIDENCE, None)
