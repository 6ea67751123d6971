"""Run records as a run leaves them, for the tests of the reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_aprqa.domain.evidence import (
    Evidence,
    Metrics,
    ModelRecord,
    Outcome,
    PlannedScenario,
    PlaybookRecord,
    RunRecord,
    VerdictRecord,
)
from pytest_aprqa.domain.gateways import Gateway, GatewayResult
from pytest_aprqa.domain.model import Backend, Format, Modality, Tier
from pytest_aprqa.domain.plan import Plan, Selection, make_plan
from pytest_aprqa.domain.playbook import Matrix, ModelRef, Playbook, Scenario
from pytest_aprqa.domain.verdict import Ruling

FILE = "q.playbook.yaml"
_RULINGS = {
    Outcome.CORROBORATED: Ruling.CORROBORATED,
    Outcome.FALSIFIED: Ruling.FALSIFIED,
}
_ASKED = (Outcome.CORROBORATED, Outcome.FALSIFIED, Outcome.TIMEOUT)


def sums(count: int) -> tuple[Scenario, ...]:
    return tuple(Scenario(name=f"sum_{n:02}", prompt=f"What is {n} + 2?") for n in range(count))


def plan(
    scenarios: Sequence[Scenario],
    *,
    tier: Tier | None = Tier.MVP,
    backends: tuple[Backend, ...] = (Backend.CPU,),
    selection: Selection | None = None,
) -> Plan:
    playbook = Playbook(
        name="q",
        version="1.0",
        model=ModelRef(id="org/Model-1B", formats=(Format.SAFETENSORS,)),
        test_matrix=Matrix(modalities=(Modality.RUN,), backends=backends),
        scenarios=tuple(scenarios),
    )
    return make_plan(
        playbook, tier=tier, selection=selection or Selection(), generate=lambda count: ()
    )


def gateways(plan: Plan, failing: Gateway | None = None) -> tuple[GatewayResult, ...]:
    """The results of every target; those after a failing one did not run."""
    order = list(Gateway)
    ran = order if failing is None else order[: order.index(failing) + 1]
    return tuple(
        GatewayResult(
            gateway=gateway,
            target=entry.target.name,
            passed=gateway is not failing,
            reason="lm_head.weight: expected 1000 × 64, found 999 × 64"
            if gateway is failing
            else "as it should be",
        )
        for entry in plan.targets
        for gateway in ran
    )


def evidence(
    entry: PlannedScenario,
    outcome: Outcome = Outcome.CORROBORATED,
    reason: str = "",
    **more: object,
) -> Evidence:
    ruling = _RULINGS.get(outcome)
    verdicts = (
        () if ruling is None else (VerdictRecord(oracle="arithmetic", ruling=ruling, reason="r"),)
    )
    metrics = Metrics(
        prompt_tokens=9,
        completion_tokens=20,
        finish_reason="stop",
        ttft_ms=12.5,
        duration_ms=250.0,
        tokens_per_second=80.0,
        memory_peak_mib=512.0,
    )
    told: dict[str, object] = {
        **entry.model_dump(exclude={"rung", "condition"}),
        "quantization": None,
        "outcome": outcome,
        "reason": reason or f"arithmetic: {outcome}",
        "verdicts": verdicts,
        "metrics": metrics if outcome in _ASKED else None,
        **more,
    }
    return Evidence.model_validate(told)


def record(
    plan: Plan,
    outcomes: Mapping[str, Outcome | None] | None = None,
    *,
    failing: Gateway | None = None,
    reason: str = "",
    excused: bool = False,
    otherwise: Outcome = Outcome.CORROBORATED,
    interrupted: bool = False,
    stopped: str | None = None,
) -> RunRecord:
    """A record in which the scenarios named in `outcomes` end so, the others as `otherwise`."""
    owed = plan.owed(FILE)
    found = []
    for entry in owed.scenarios:
        outcome = (outcomes or {}).get(entry.scenario, otherwise)
        if outcome is not None:
            special = outcome is not otherwise
            found.append(
                evidence(entry, outcome, reason if special else "", excused=excused and special)
            )
    return RunRecord(
        playbook=PlaybookRecord(name="q", version="1.0", path=FILE, sha256="0" * 64),
        model=ModelRecord(id="org/Model-1B", revision="main", source="local"),
        tier=plan.tier,
        plan=owed,
        gateways=gateways(plan, failing),
        evidence=tuple(found),
        interrupted=interrupted,
        stopped=stopped,
    )
