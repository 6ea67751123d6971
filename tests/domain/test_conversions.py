"""Which conversions a run owes, what they are called, and what they count for."""

from __future__ import annotations

from collections import Counter

import pytest

from pytest_aprqa.checks.conversion_evidence import blank_conversion
from pytest_aprqa.conversion.impossible import why_impossible
from pytest_aprqa.conversion.writing import APR_BY_QUANTIZER, APR_OWN, PLAIN
from pytest_aprqa.domain.conversions import (
    APR_QUANTIZATIONS,
    CONVERSION,
    ConversionCase,
    ConversionKind,
    conversions_of,
)
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.evidence import (
    Check,
    Evidence,
    Outcome,
    PlannedScenario,
    RunRecord,
    VerdictRecord,
)
from pytest_aprqa.domain.gateways import Gateway
from pytest_aprqa.domain.model import Backend, Format, Modality, Quantization, Severity, Tier
from pytest_aprqa.domain.mqs import score_run
from pytest_aprqa.domain.owed import conversion_id
from pytest_aprqa.domain.plan import Plan, Selection, make_plan
from pytest_aprqa.domain.playbook import Category, Matrix, ModelRef, Playbook, Scenario
from pytest_aprqa.domain.scoring import Status
from pytest_aprqa.domain.verdict import Ruling
from tests.domain.run_records import items, record

ALL = tuple(Format)
BOTH = (Format.SAFETENSORS, Format.GGUF)
FILE = "q.playbook.yaml"
KINDS = tuple(ConversionKind)


def counts(cases: tuple[ConversionCase, ...]) -> list[int]:
    """How many cases of each kind, in the kinds' own order."""
    found = Counter(case.kind for case in cases)
    return [found[kind] for kind in KINDS]


def names(cases: tuple[ConversionCase, ...], kind: ConversionKind) -> list[str]:
    return [case.item_name for case in cases if case.kind is kind]


def planned(tier: Tier | None, *formats: Format, selection: Selection | None = None) -> Plan:
    return make_plan(
        Playbook(
            model=ModelRef(id="org/model", formats=formats or BOTH),
            test_matrix=Matrix(modalities=(Modality.RUN,), backends=(Backend.CPU,)),
            scenarios=(Scenario(name="sum", prompt="What is 2 + 2?"),),
            name="q",
            version="1.0",
        ),
        tier=tier,
        selection=selection or Selection(),
        generate=lambda count: [Scenario(name=f"g{i}", prompt=f"{i} + 1 =") for i in range(count)],
    )


def test_three_formats_owe_every_path_between_them() -> None:
    cases = conversions_of(ALL, ())
    assert counts(cases) == [6, 6, 6, 6, 6, 2]
    assert names(cases, ConversionKind.DIRECT) == [
        "convert-safetensors-apr",
        "convert-safetensors-gguf",
        "convert-apr-safetensors",
        "convert-apr-gguf",
        "convert-gguf-safetensors",
        "convert-gguf-apr",
    ]
    assert names(cases, ConversionKind.GOLDEN) == [
        "golden-safetensors-apr",
        "golden-safetensors-gguf",
    ]
    assert "chain-safetensors-apr-gguf" in names(cases, ConversionKind.CHAIN)
    assert {(case.severity, case.category) for case in cases} == {(Severity.P0, Category.COMP)}


def test_a_quantization_owes_them_again_but_for_two_ways_of_quantizing() -> None:
    native, cases = conversions_of(ALL, ()), conversions_of(ALL, (Quantization.Q8_0,))
    assert cases[: len(native)] == native
    again = cases[len(native) :]
    assert counts(again) == [6, 6, 6, 6, 4, 2]
    assert "convert-gguf-apr-q8_0" in names(again, ConversionKind.DIRECT)
    assert [c.path[0] for c in again if c.kind is ConversionKind.COMMUTES] == [
        Format.APR,
        Format.APR,
        Format.GGUF,
        Format.GGUF,
    ]


def test_a_format_that_cannot_hold_a_quantization_is_on_no_path() -> None:
    cases = [c for c in conversions_of(ALL, (Quantization.Q5_K_M,)) if c.quantization is not None]
    assert counts(tuple(cases)) == [2, 2, 0, 2, 0, 1]
    assert all(Format.APR not in case.path for case in cases)


def test_two_formats_have_no_detours() -> None:
    assert counts(conversions_of(BOTH, ())) == [2, 2, 0, 2, 0, 1]


def test_the_ground_truth_takes_part_where_a_run_leaves_it_out() -> None:
    assert conversions_of((Format.GGUF,), ()) == conversions_of(BOTH, ())


@pytest.mark.parametrize("formats", [(), (Format.SAFETENSORS,)])
def test_safetensors_alone_owe_none(formats: tuple[Format, ...]) -> None:
    assert conversions_of(formats, (Quantization.Q8_0,)) == ()


def test_every_name_is_one_items() -> None:
    cases = conversions_of(ALL, tuple(Quantization))
    found = [case.item_name for case in cases]
    assert len(found) == len(set(found))
    assert not any(character in name for name in found for character in "[]: ")


@pytest.mark.parametrize(
    ("path", "quantization", "expected"),
    [
        (BOTH, None, False),
        (BOTH, Quantization.Q8_0, True),
        (BOTH[::-1], Quantization.Q8_0, False),
    ],
)
def test_only_the_ground_truth_is_quantized(
    path: tuple[Format, ...], quantization: Quantization | None, expected: bool
) -> None:
    assert ConversionCase(ConversionKind.DIRECT, path, quantization).quantizes is expected


def test_what_apr_holds_is_what_can_be_written() -> None:
    assert set(APR_QUANTIZATIONS) == {*PLAIN, *APR_OWN, *APR_BY_QUANTIZER}
    for quantization in Quantization:
        able = why_impossible(Format.APR, quantization) is None
        assert able == (quantization in APR_QUANTIZATIONS), quantization
        assert why_impossible(Format.GGUF, quantization) is None


@pytest.mark.parametrize("tier", [None, *Tier])
def test_every_tier_but_smoke_owes_conversions(tier: Tier | None) -> None:
    plan = planned(tier)
    assert len(plan.conversions) == (0 if tier is Tier.SMOKE else 7)


def test_a_run_of_one_format_owes_no_conversions() -> None:
    assert planned(Tier.MVP, Format.SAFETENSORS).conversions == ()
    kept = Selection(formats=(Format.SAFETENSORS,))
    assert planned(Tier.MVP, selection=kept).conversions == ()


def test_the_plan_in_evidence_names_conversions_by_their_items() -> None:
    owed = planned(Tier.MVP).owed(FILE)
    found = [entry for entry in owed.scenarios if entry.check is Check.CONVERSION]
    assert found[0] == PlannedScenario(
        id="q.playbook.yaml::conversion::convert-safetensors-gguf",
        check=Check.CONVERSION,
        target="conversion",
        backend=None,
        format=Format.GGUF,
        modality=None,
        scenario="convert-safetensors-gguf",
        gate="F-CONV-S-G",
        category=Category.COMP,
        severity=Severity.P0,
    )
    assert len(found) == 7
    assert CONVERSION not in owed.targets


CASES = conversions_of(BOTH, ())


def shown(case: ConversionCase, outcome: Outcome, ruling: Ruling | None) -> Evidence:
    blank = blank_conversion(case, conversion_id(case, FILE), outcome, f"it was {outcome}")
    verdicts = () if ruling is None else (VerdictRecord(oracle="o", ruling=ruling, reason="r"),)
    return blank.model_copy(update={"verdicts": verdicts, "measurements": {"nmse": 0.25}})


def run(*outcomes: Outcome | None) -> RunRecord:
    """Ten scenarios that pass, and seven conversions with these outcomes, the rest passing."""
    base = record(items(*[Outcome.CORROBORATED] * 10))
    plan = planned(Tier.MVP).owed(FILE)
    entries = tuple(entry for entry in plan.scenarios if entry.check is Check.CONVERSION)
    told = [*outcomes, *[Outcome.CORROBORATED] * (len(CASES) - len(outcomes))]
    rulings = {Outcome.CORROBORATED: Ruling.CORROBORATED, Outcome.FALSIFIED: Ruling.FALSIFIED}
    evidence = [
        shown(case, outcome, rulings.get(outcome))
        for case, outcome in zip(CASES, told, strict=True)
        if outcome is not None
    ]
    return base.model_copy(
        update={
            "plan": base.plan.model_copy(update={"scenarios": (*base.plan.scenarios, *entries)}),
            "evidence": (*base.evidence, *evidence),
        }
    )


def test_a_conversions_evidence_comes_back_from_json() -> None:
    before = run(Outcome.FALSIFIED)
    after = RunRecord.model_validate_json(before.model_dump_json())
    assert after == before
    found = after.evidence[10]
    assert (found.check, found.backend, found.modality) == (Check.CONVERSION, None, None)
    assert found.measurements == {"nmse": 0.25}


def test_conversions_count_and_owe_no_gateways() -> None:
    mqs = score_run(run())
    assert (mqs.rate.passed, mqs.rate.total) == (10, 10)  # they make up for no wrong answer
    assert (mqs.conversions.passed, mqs.conversions.total) == (7, 7)
    assert (mqs.planned, mqs.executed) == (17, 17)
    assert (mqs.gateways_run, mqs.gateways_owed) == (5, 5)
    assert mqs.status is Status.PROVISIONAL
    assert mqs.scope == ("safetensors-cpu × run", "7 conversions")
    comp = next(score for score in mqs.categories if score.category is Category.COMP)
    assert (comp.passed, comp.total) == (7, 7)


def test_one_falsified_conversion_blocks_the_model() -> None:
    mqs = score_run(run(Outcome.FALSIFIED))
    assert mqs.status is Status.BLOCKED
    assert (mqs.conversions.passed, mqs.conversions.total) == (6, 7)
    assert (mqs.rate.passed, mqs.rate.total) == (10, 10)
    told = "P0 falsified: q.playbook.yaml::conversion::convert-safetensors-gguf"
    assert told in mqs.remarks


def test_a_conversion_that_crashes_zeroes_the_score() -> None:
    mqs = score_run(run(Outcome.CRASHED))
    assert (mqs.points, mqs.status) == (0, Status.BLOCKED)
    [failed] = mqs.failed_gateways
    assert (failed.gateway, failed.target) == (Gateway.G3, CONVERSION)


def test_a_conversion_without_evidence_leaves_the_run_partial() -> None:
    mqs = score_run(run(None, None))
    assert (mqs.points, mqs.status) == (None, Status.PENDING)
    assert any("partial run: 2 of 17" in remark for remark in mqs.remarks)


def test_a_pass_that_no_verdict_gave_is_refused() -> None:
    good = run()
    empty = good.evidence[10].model_copy(update={"verdicts": ()})
    edited = good.model_copy(update={"evidence": (*good.evidence[:10], empty)})
    with pytest.raises(AprqaError, match="is Corroborated, but its verdicts are: none"):
        score_run(edited)


def test_a_conversion_shown_as_a_scenario_is_refused() -> None:
    good = run()
    other = good.evidence[10].model_copy(update={"check": Check.SCENARIO})
    edited = good.model_copy(update={"evidence": (*good.evidence[:10], other)})
    with pytest.raises(AprqaError, match="with check scenario, where the plan has conversion"):
        score_run(edited)
