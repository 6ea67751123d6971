"""Gates of answers and servers in the plan and in the score."""

from __future__ import annotations

import pytest

from pytest_aprqa.domain.case import Target
from pytest_aprqa.domain.evidence import Check, Evidence, Outcome, PlannedRun, RunRecord
from pytest_aprqa.domain.gateways import Gateway
from pytest_aprqa.domain.model import Backend, Format, Modality, Severity, Tier
from pytest_aprqa.domain.model_gates import GateCase, ModelGate
from pytest_aprqa.domain.mqs import Mqs, score_run
from pytest_aprqa.domain.plan import BATCHED_FROM, Plan, Selection, make_plan
from pytest_aprqa.domain.playbook import EndpointRef, Matrix, ModelRef, Playbook, Scenario
from pytest_aprqa.domain.scoring import Status
from pytest_aprqa.domain.serve import ServeGate
from tests.domain.run_records import BLOCK, FALSE, SKIP, Item, planned, record, shown

FILE = "q.playbook.yaml"
TARGET = Target("org/model", Format.SAFETENSORS, None, Backend.CPU)
Gate = ServeGate | ModelGate


def plan_of(
    *modalities: Modality, scenarios: int = 3, endpoint: str | None = None, **settings: object
) -> Plan:
    book = Playbook(
        name="q",
        version="1.0",
        model=ModelRef(id="org/model", formats=(Format.SAFETENSORS,)),
        test_matrix=Matrix.model_validate(
            {"modalities": modalities, "backends": (Backend.CPU,), **settings}
        ),
        scenarios=tuple(Scenario(name=f"s{i}", prompt=f"{i}?") for i in range(scenarios)),
    )
    return make_plan(
        book,
        tier=Tier.MVP,
        selection=Selection(),
        generate=lambda count: (),
        endpoint=None if endpoint is None else EndpointRef(url=endpoint),
    )


def gates_of(plan: Plan) -> list[object]:
    (entry,) = plan.targets
    return [case.gate for case in entry.gates]


def test_a_served_target_owes_every_gate_of_a_server() -> None:
    plan = plan_of(Modality.RUN, Modality.SERVE)
    assert gates_of(plan) == list(ServeGate)
    owed = [entry for entry in plan.owed(FILE).scenarios if entry.check is Check.SERVE]
    assert len(owed) == len(ServeGate)
    assert owed[0].id == f"{FILE}::safetensors-cpu::serve_health-safetensors-cpu"
    assert (owed[0].modality, owed[0].scenario, owed[0].severity) == (
        Modality.SERVE,
        "serve_health",
        Severity.P0,
    )


def test_what_is_not_served_owes_none() -> None:
    assert gates_of(plan_of(Modality.RUN, Modality.CHAT)) == []


@pytest.mark.parametrize(("scenarios", "owed"), [(BATCHED_FROM - 1, False), (BATCHED_FROM, True)])
def test_questions_enough_for_a_batch_owe_its_gate(scenarios: int, owed: bool) -> None:
    assert (gates_of(plan_of(Modality.RUN, scenarios=scenarios)) == [ModelGate.BATCHED]) is owed
    sampled = plan_of(Modality.RUN, scenarios=scenarios, temperature=0.8)
    assert gates_of(sampled) == []


def test_an_endpoint_is_the_only_target_and_narrows_the_run() -> None:
    plan = plan_of(Modality.RUN, Modality.CHAT, scenarios=20, endpoint="http://h:1")
    (entry,) = plan.targets
    assert (entry.target.name, entry.target.format, entry.target.backend) == (
        "endpoint",
        None,
        None,
    )
    assert gates_of(plan) == [ModelGate.PARITY]
    assert plan.conversions == ()
    (narrowing,) = plan.narrowings
    assert narrowing.cells == "safetensors × cpu"
    assert narrowing.reason == "asked at http://h:1, whose files and device are not seen"
    assert entry.cases[0].item_name == "s0-endpoint-run"


def gated(*gates: tuple[Gate, Item], passed: int = 10) -> RunRecord:
    """A complete run of ten scenarios, and of these gates."""
    made = record([Item() for _ in range(passed)])
    entries, evidence = list(made.plan.scenarios), list(made.evidence)
    for offset, (gate, item) in enumerate(gates):
        case = GateCase(gate, TARGET)
        number = passed + offset
        told = {
            "check": case.check,
            "modality": case.modality,
            "severity": gate.severity,
            "category": gate.category,
            "scenario": gate.item_name,
        }
        entries.append(planned(number, item).model_copy(update=told))
        if item.outcome is not None:
            evidence.append(shown(number, item).model_copy(update=told))
    plan = PlannedRun(targets=made.plan.targets, scenarios=tuple(entries))
    return made.model_copy(update={"plan": plan, "evidence": tuple(evidence)})


def scored(*gates: tuple[Gate, Item]) -> Mqs:
    return score_run(gated(*gates))


def test_gates_that_hold_are_counted_beside_the_scenarios() -> None:
    found = scored((ServeGate.HEALTH, Item()), (ModelGate.BATCHED, Item()))
    assert (found.rate.passed, found.rate.total) == (10, 10)
    assert (found.gates.passed, found.gates.total) == (2, 2)
    assert (found.points, found.status) == (800, Status.PROVISIONAL)


def test_a_falsified_p0_gate_blocks() -> None:
    found = scored((ServeGate.HEALTH, Item(FALSE)), (ServeGate.USAGE, Item()))
    assert found.status is Status.BLOCKED
    assert any("P0 falsified" in remark for remark in found.remarks)


def test_scenarios_do_not_make_up_for_gates() -> None:
    gates = [(ServeGate.USAGE, Item(FALSE)), *[(ServeGate.STOP, Item())] * 8]
    found = score_run(gated(*gates))
    assert found.rate.value == 1
    assert found.status is Status.BLOCKED
    assert "8 of 9 gates corroborated: tier mvp takes 90% for PROVISIONAL" in found.remarks
    enough = score_run(gated(*gates, (ServeGate.SEED, Item())))
    assert enough.status is Status.PROVISIONAL


def test_gates_do_not_make_up_for_scenarios() -> None:
    made = gated(*[(ServeGate.STOP, Item())] * 50)
    wrong = [
        item.model_copy(update={"outcome": Outcome.TIMEOUT, "verdicts": ()}) if index < 2 else item
        for index, item in enumerate(made.evidence)
    ]
    found = score_run(made.model_copy(update={"evidence": tuple(wrong)}))
    assert found.status is Status.BLOCKED


def test_a_gate_that_was_not_asked_leaves_the_run_partial() -> None:
    assert scored((ServeGate.STOP, Item(None))).points is None
    blocked = scored((ServeGate.STOP, Item(BLOCK)))
    assert (blocked.gates.passed, blocked.gates.total) == (0, 1)
    assert blocked.status is Status.BLOCKED


def without_meaning(item: Evidence) -> Evidence:
    return item.model_copy(update={"applicable": False, "reason": "no log probabilities"})


def test_a_gate_without_meaning_leaves_nothing_out() -> None:
    made = gated((ServeGate.LOGPROBS, Item(SKIP, excused=True)), (ServeGate.HEALTH, Item()))
    *others, gate, last = made.evidence
    told = made.model_copy(update={"evidence": (*others, without_meaning(gate), last)})
    found = score_run(told)
    assert (found.gates.passed, found.gates.total) == (1, 1)
    assert found.narrowings == ()
    assert found.status is Status.PROVISIONAL
    (claim,) = found.inapplicable
    assert (claim.cells, claim.reason) == (
        "serve_logprobs of safetensors-cpu",
        "no log probabilities",
    )


def test_a_gate_that_this_machine_lacks_narrows_the_run() -> None:
    found = scored((ServeGate.LOGPROBS, Item(SKIP, excused=True)), (ServeGate.HEALTH, Item()))
    assert [n.reason for n in found.narrowings] == ["it was Skipped"]
    assert found.status is Status.PENDING


def test_an_endpoint_owes_four_gateways() -> None:
    made = record([Item() for _ in range(10)])
    unseen = {"format": None, "backend": None}
    told = made.model_copy(
        update={
            "plan": made.plan.model_copy(
                update={
                    "scenarios": tuple(e.model_copy(update=unseen) for e in made.plan.scenarios)
                }
            ),
            "evidence": tuple(e.model_copy(update=unseen) for e in made.evidence),
            "gateways": tuple(r for r in made.gateways if r.gateway is not Gateway.G0),
        }
    )
    found = score_run(told)
    assert (found.gateways_run, found.gateways_owed) == (4, 4)
    assert found.points == 800
    fewer = told.model_copy(update={"gateways": told.gateways[1:]})
    assert score_run(fewer).points is None
