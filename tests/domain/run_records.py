"""Small run records for the tests of the score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_aprqa.domain.evidence import (
    Evidence,
    ModelRecord,
    Narrowing,
    Outcome,
    PlannedRun,
    PlannedScenario,
    PlaybookRecord,
    RunRecord,
    VerdictRecord,
)
from pytest_aprqa.domain.gateways import Gateway, GatewayResult
from pytest_aprqa.domain.model import Backend, Format, Modality, Severity, Tier
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.verdict import Ruling

TARGET = "safetensors-cpu"
OTHER = "gguf-cpu"

PASS = Outcome.CORROBORATED
FALSE = Outcome.FALSIFIED
TIMEOUT = Outcome.TIMEOUT
CRASH = Outcome.CRASHED
SKIP = Outcome.SKIPPED
BLOCK = Outcome.BLOCKED


@dataclass(frozen=True, slots=True)
class Item:
    """One planned item and what it showed; no outcome is no evidence."""

    outcome: Outcome | None = PASS
    excused: bool = False
    severity: Severity = Severity.P1
    category: Category = Category.QUAL
    target: str = TARGET
    modality: Modality = Modality.RUN


EXCUSED = Item(SKIP, excused=True)


def items(*outcomes: Outcome | None) -> list[Item]:
    return [Item(outcome) for outcome in outcomes]


def passes(count: int, *, of: int) -> list[Item]:
    return items(*[PASS] * count, *[FALSE] * (of - count))


def item_id(index: int) -> str:
    return f"q.playbook.yaml::item-{index}"


def planned(index: int, item: Item) -> PlannedScenario:
    return PlannedScenario(
        id=item_id(index),
        target=item.target,
        backend=Backend.CPU,
        format=Format(item.target.split("-")[0]),
        modality=item.modality,
        scenario=f"scenario_{index}",
        category=item.category,
        severity=item.severity,
    )


def shown(index: int, item: Item, outcome: Outcome | None = None, reason: str = "") -> Evidence:
    """Evidence of the item; with its own outcome unless another is given."""
    told = outcome or item.outcome
    assert told is not None
    ruling = {PASS: Ruling.CORROBORATED, FALSE: Ruling.FALSIFIED}.get(told)
    return Evidence(
        id=item_id(index),
        target=item.target,
        format=Format(item.target.split("-")[0]),
        quantization=None,
        backend=Backend.CPU,
        modality=item.modality,
        scenario=f"scenario_{index}",
        category=item.category,
        severity=item.severity,
        outcome=told,
        excused=item.excused,
        reason=reason or f"it was {told}",
        verdicts=() if ruling is None else (VerdictRecord(oracle="o", ruling=ruling, reason="r"),),
    )


def gateways(
    *targets: str, failing: Gateway | None = None, leave_out: Gateway | None = None
) -> tuple[GatewayResult, ...]:
    return tuple(
        GatewayResult(gateway=gateway, target=target, passed=gateway is not failing, reason="seen")
        for target in targets
        for gateway in Gateway
        if gateway is not leave_out
    )


def record(
    entries: Sequence[Item],
    *,
    tier: Tier | None = Tier.MVP,
    gates: Iterable[GatewayResult] | None = None,
    narrowings: tuple[Narrowing, ...] = (),
    extra: Sequence[Evidence] = (),
    interrupted: bool = False,
    stopped: str | None = None,
) -> RunRecord:
    targets = tuple(dict.fromkeys(item.target for item in entries))
    return RunRecord(
        playbook=PlaybookRecord(name="q", version="1.0", path="q.playbook.yaml", sha256="0" * 64),
        model=ModelRecord(id="org/model", revision="main"),
        tier=tier,
        plan=PlannedRun(
            targets=targets,
            scenarios=tuple(planned(index, item) for index, item in enumerate(entries)),
            narrowings=narrowings,
        ),
        gateways=gateways(*targets) if gates is None else tuple(gates),
        evidence=(
            *(shown(i, item) for i, item in enumerate(entries) if item.outcome is not None),
            *extra,
        ),
        interrupted=interrupted,
        stopped=stopped,
    )
