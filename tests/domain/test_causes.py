"""The root cause is what lies nearest to the bytes."""

from __future__ import annotations

from pytest_aprqa.domain.causes import causes
from pytest_aprqa.domain.evidence import Outcome, RunRecord
from pytest_aprqa.domain.gate import Rung
from pytest_aprqa.domain.gateways import Gateway
from tests.reports.card_records import plan, record, sums

FALSE = Outcome.FALSIFIED


def ranked(rungs: dict[str, Rung], culprits: dict[str, str]) -> RunRecord:
    made = record(plan(sums(3)), dict.fromkeys((s.name for s in sums(3)), FALSE), reason="wrong")
    entries = tuple(
        entry.model_copy(update={"rung": rungs.get(entry.scenario)})
        for entry in made.plan.scenarios
    )
    shown = tuple(
        item.model_copy(update={"culprit": culprits.get(item.scenario, "")})
        for item in made.evidence
    )
    owed = made.plan.model_copy(update={"scenarios": entries})
    return made.model_copy(update={"plan": owed, "evidence": shown})


def test_tensors_come_before_texts_and_the_named_before_the_unnamed() -> None:
    found = causes(
        ranked(
            {"sum_01": Rung.TENSOR, "sum_02": Rung.TENSOR},
            {"sum_02": "model.layers.1.mlp.up_proj.weight"},
        )
    )

    assert [cause.name.split("-")[0] for cause in found] == ["sum_02", "sum_01", "sum_00"]
    assert str(found[0]) == "model.layers.1.mlp.up_proj.weight: wrong"


def test_a_failed_gateway_is_a_cause() -> None:
    (cause,) = causes(record(plan(sums(1)), failing=Gateway.G0, otherwise=Outcome.BLOCKED))

    assert cause.name == "G0 of safetensors-cpu"
    assert str(cause) == "lm_head.weight: expected 1000 × 64, found 999 × 64"


def test_a_healthy_run_has_no_cause() -> None:
    assert causes(record(plan(sums(2)))) == ()
