"""The record of what happened: one `Evidence` per scenario asked, one `RunRecord` per playbook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pytest_aprqa.domain.gateways import GatewayResult
from pytest_aprqa.domain.model import Backend, Format, Modality, Quantization, Severity, Tier
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.verdict import Ruling

SCHEMA_VERSION = "1.3"
"""Version of the evidence format; readers refuse a major number they do not know."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Outcome(StrEnum):
    """What happened to a scenario. Only Corroborated is a pass."""

    CORROBORATED = "Corroborated"
    FALSIFIED = "Falsified"
    TIMEOUT = "Timeout"
    CRASHED = "Crashed"
    INCONCLUSIVE = "Inconclusive"
    """Asked, but what was measured allows neither verdict; it stays owed, and is no pass."""
    SKIPPED = "Skipped"
    """Not asked, with a reason; `excused` says whether the machine or the model rules it out."""
    BLOCKED = "Blocked"
    """Not asked, because a gateway or a failure policy stopped the line."""


_WORST_FIRST = (
    Outcome.CRASHED,
    Outcome.FALSIFIED,
    Outcome.TIMEOUT,
    Outcome.BLOCKED,
    Outcome.INCONCLUSIVE,
    Outcome.SKIPPED,
    Outcome.CORROBORATED,
)


class VerdictRecord(_Record):
    """One oracle's verdict as evidence."""

    oracle: str
    ruling: Ruling
    reason: str


class Metrics(_Record):
    """What the generation took, as measured."""

    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    ttft_ms: float | None
    duration_ms: float
    tokens_per_second: float | None
    memory_peak_mib: float
    batch_size: int = 1
    """Requests that were generated together; the times of more than one are the batch's."""


class RequestRecord(_Record):
    """The settings that reached the engine."""

    max_tokens: int
    temperature: float
    seed: int
    stop: tuple[str, ...]
    timeout_ms: int


class Check(StrEnum):
    """What kind of item evidence is of."""

    SCENARIO = "scenario"
    """A question put to a model in one cell of the matrix."""
    CONVERSION = "conversion"
    """A conversion between formats; it has no backend and no modality."""
    SERVE = "serve"
    """A gate of a target's server, such as `serve_health`."""
    MODEL = "model"
    """A gate about a target's answers, such as `batched_equals_alone`."""
    GATE = "gate"
    """A gate of the registry: about the model's files, a target, or a server."""
    CONDITION = "condition"
    """A claim about the evidence of the whole run, decided when all of it is there."""


class Evidence(_Record):
    """What one item showed; `id` is the item's node id."""

    id: str
    check: Check = Check.SCENARIO
    target: str
    format: Format | None
    """The format that is asked; for a conversion the one that it ends in; None at an endpoint."""
    quantization: Quantization | None
    backend: Backend | None
    modality: Modality | None
    scenario: str
    gate: str = ""
    """The id of the falsification gate it bears on, such as `F-CONV-RT-001`."""
    category: Category
    severity: Severity
    outcome: Outcome
    reason: str
    """One line: the verdict, or why there is none."""
    excused: bool = False
    """True when the cell cannot exist here (no CUDA device, no chat template): out of scope."""
    applicable: bool = True
    """False when a gate has no meaning for this model or server, such as one for log probabilities
    where none are offered: then nothing is left out either."""
    question: str = ""
    rendered_prompt: str = ""
    output: str = ""
    output_token_ids: tuple[int, ...] = ()
    culprit: str = ""
    """The tensor, layer or file that is to blame, where that could be told."""
    diagnosis: str = ""
    """Where an engine that crashed or hung was: its stack, or the tail of its log."""
    verdicts: tuple[VerdictRecord, ...] = ()
    request: RequestRecord | None = None
    metrics: Metrics | None = None
    measurements: Mapping[str, float] = Field(default_factory=dict)
    """What a conversion's verdicts rest on, by name, such as `nmse_worst_tensor`."""
    engine: Mapping[str, str] = Field(default_factory=dict)
    worker: str = ""
    """The xdist worker that gathered it, `main` without xdist."""
    timestamp: str = ""
    """When it was recorded, RFC 3339 in UTC."""


def worse(first: Evidence, second: Evidence) -> Evidence:
    """The one of two evidences of the same item with the worse outcome, whatever their order.

    A skip without an excuse is worse than one with; of two alike the earlier stands.
    """
    return min(first, second, key=_badness)


def _badness(evidence: Evidence) -> tuple[int, bool, str, str]:
    rank = _WORST_FIRST.index(evidence.outcome)
    return rank, evidence.excused, evidence.timestamp, evidence.reason


class PlannedScenario(_Record):
    """One item that the run owes: a scenario in one cell, a conversion, or a gate."""

    id: str
    check: Check = Check.SCENARIO
    target: str
    backend: Backend | None
    format: Format | None
    modality: Modality | None
    scenario: str
    gate: str = ""
    rung: int | None = None
    """How near to the root of a defect it looks, as `domain.gate.Rung`; None: as its check does."""
    condition: str = ""
    """What a condition asserts of the run's evidence."""
    category: Category
    severity: Severity


class Narrowing(_Record):
    """Part of the playbook's matrix that this run leaves out, and why."""

    cells: str
    reason: str


class PlannedRun(_Record):
    """Everything a complete run of the playbook at this tier must show."""

    targets: tuple[str, ...]
    scenarios: tuple[PlannedScenario, ...]
    narrowings: tuple[Narrowing, ...] = ()


class PlaybookRecord(_Record):
    """Which playbook was run, byte for byte."""

    name: str
    version: str
    path: str
    sha256: str
    description: str = ""
    metadata: Mapping[str, Any] = Field(default_factory=dict)


class ModelRecord(_Record):
    """Which model was run: where its files came from and their SHA-256."""

    id: str
    revision: str
    source: Literal["embedded", "local", "cache", "download", "unknown"] = "unknown"
    commit: str | None = None
    size_category: str | None = None
    family: str | None = None
    size_variant: str | None = None
    files: Mapping[str, str] = Field(default_factory=dict)


class RunRecord(_Record):
    """All evidence of one playbook in one run; score, grade and status follow from it alone."""

    schema_version: str = SCHEMA_VERSION
    playbook: PlaybookRecord
    model: ModelRecord
    tier: Tier | None
    """None: the playbook's own matrix and depth, as feedback."""
    plan: PlannedRun
    gateways: tuple[GatewayResult, ...]
    evidence: tuple[Evidence, ...]
    stopped: str | None = None
    """Why the line was stopped; None when it was not."""
    interrupted: bool = False
    """True when the run was broken off (Ctrl-C) before its end."""
    host: Mapping[str, str] = Field(default_factory=dict)
    libraries: Mapping[str, str] = Field(default_factory=dict)
    started: str = ""
    finished: str = ""


def contradictions(record: RunRecord) -> Iterator[str]:
    """Where a record contradicts itself; a run writes none of these, an edit or a mix may."""
    plan = record.plan
    name = record.playbook.name
    ids = Counter(entry.id for entry in plan.scenarios)
    yield from (f"the plan of {name} names {id_!r} {n} times" for id_, n in ids.items() if n > 1)
    asked = {entry.target for entry in plan.scenarios if entry.check is Check.SCENARIO}
    for target in sorted(asked ^ set(plan.targets)):
        where = "targets" if target in asked else "scenarios"
        yield f"the plan of {name} names the target {target!r}, but not in its {where}"
    for result in record.gateways:
        if result.target not in plan.targets:
            yield (
                f"{result.gateway} of the target {result.target!r}, "
                f"which the plan of {name} does not name"
            )
    entries = {entry.id: entry for entry in plan.scenarios}
    for item in record.evidence:
        yield from _contradicted(item, entries.get(item.id), name)


def _contradicted(item: Evidence, entry: PlannedScenario | None, playbook: str) -> Iterator[str]:
    if entry is None:
        yield f"evidence of {item.id!r}, which the plan of {playbook} does not name"
        return
    for key in _PLANNED_KEYS:
        shown, owed = getattr(item, key), getattr(entry, key)
        if shown != owed:
            yield f"evidence of {item.id!r} with {key} {shown}, where the plan has {owed}"
    rulings = {verdict.ruling for verdict in item.verdicts}
    earned = Ruling.CORROBORATED in rulings and Ruling.FALSIFIED not in rulings
    if item.outcome is Outcome.CORROBORATED and not earned:
        found = ", ".join(sorted(rulings)) or "none"
        yield f"evidence of {item.id!r} is {item.outcome}, but its verdicts are: {found}"


_PLANNED_KEYS = (
    "check",
    "target",
    "backend",
    "format",
    "modality",
    "scenario",
    "gate",
    "category",
    "severity",
)
