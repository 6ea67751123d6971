from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from pytest_aprqa.domain.evidence import Narrowing, Outcome
from pytest_aprqa.domain.gateways import Gateway, GatewayResult
from pytest_aprqa.domain.model import Modality, Severity, Tier
from pytest_aprqa.domain.mqs import Mqs, PassRate, score_run
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.scoring import Grade, Status
from tests.domain.run_records import (
    BLOCK,
    CRASH,
    EXCUSED,
    FALSE,
    OTHER,
    PASS,
    SKIP,
    TARGET,
    TIMEOUT,
    Item,
    gateways,
    item_id,
    items,
    passes,
    record,
    shown,
)

Result = tuple[int | None, Grade | None, Status]
NOTHING: Result = (None, None, Status.PENDING)
ZERO: Result = (0, Grade.F, Status.BLOCKED)


def result(mqs: Mqs) -> Result:
    return mqs.points, mqs.grade, mqs.status


# What a complete run is worth.


@pytest.mark.parametrize(
    ("passed", "total", "expected"),
    [
        (10, 10, (800, Grade.B, Status.PROVISIONAL)),
        (19, 20, (800, Grade.B, Status.PROVISIONAL)),
        (9, 10, (800, Grade.B, Status.PROVISIONAL)),
        (89, 100, (622, Grade.F, Status.BLOCKED)),
        (1, 2, (349, Grade.F, Status.BLOCKED)),
        (0, 3, (0, Grade.F, Status.BLOCKED)),
    ],
)
def test_a_complete_mvp_run_earns_its_tier_score(passed: int, total: int, expected: Result) -> None:
    assert result(score_run(record(passes(passed, of=total)))) == expected


@pytest.mark.parametrize(
    ("passed", "total", "expected"),
    [
        (20, 20, (1000, Grade.A_PLUS, Status.CERTIFIED)),
        (19, 20, (950, Grade.A_PLUS, Status.CERTIFIED)),
        (27, 28, (964, Grade.A_PLUS, Status.CERTIFIED)),
        (17, 18, (888, Grade.B_PLUS, Status.PROVISIONAL)),
        (9, 10, (800, Grade.B, Status.PROVISIONAL)),
        (89, 100, (622, Grade.F, Status.BLOCKED)),
    ],
)
def test_a_complete_deep_run_earns_its_tier_score(
    passed: int, total: int, expected: Result
) -> None:
    assert result(score_run(record(passes(passed, of=total), tier=Tier.DEEP))) == expected


@pytest.mark.parametrize("tier", [Tier.SMOKE, Tier.QUICK, Tier.STANDARD, None])
def test_a_feedback_run_sums_its_categories_and_certifies_nothing(tier: Tier | None) -> None:
    entries = [Item(), Item(category=Category.EDGE), Item(FALSE, category=Category.EDGE)]
    mqs = score_run(record(entries, tier=tier))
    assert result(mqs) == (200 + 75, None, Status.PENDING)


def test_feedback_says_that_it_is_feedback() -> None:
    assert score_run(record([Item()], tier=Tier.QUICK)).remarks == (
        "tier quick is feedback and certifies nothing",
    )
    assert score_run(record([Item()], tier=None)).remarks == (
        "a run without --tier is feedback and certifies nothing",
    )


def test_an_untested_category_earns_nothing() -> None:
    mqs = score_run(record([Item()], tier=Tier.QUICK))
    untested = [score for score in mqs.categories if not score.tested]
    assert [score.category for score in untested] == [c for c in Category if c is not Category.QUAL]
    assert {score.points for score in untested} == {0}


def test_a_category_of_which_all_is_blocked_is_untested() -> None:
    entries = [Item(), Item(BLOCK, category=Category.EDGE)]
    scores = {score.category: score for score in score_run(record(entries)).categories}
    assert not scores[Category.EDGE].tested


def test_a_blocked_item_counts_in_a_category_that_was_tested() -> None:
    mqs = score_run(record(items(PASS, BLOCK), tier=Tier.QUICK))
    qual = mqs.categories[0]
    assert (qual.passed, qual.total, qual.points) == (1, 2, 100)


def test_a_complete_run_leaves_nothing_to_remark() -> None:
    assert score_run(record(items(PASS), tier=Tier.DEEP)).remarks == ()


def test_a_missed_threshold_is_told() -> None:
    assert score_run(record(passes(17, of=18), tier=Tier.DEEP)).remarks == (
        "17 of 18 corroborated: tier deep takes 95% for CERTIFIED",
    )


def test_the_rate_comes_with_its_exact_interval() -> None:
    rate = score_run(record(passes(9, of=10))).rate
    assert (rate.passed, rate.total) == (9, 10)
    assert (round(rate.lower, 3), round(rate.upper, 3)) == (0.555, 0.997)


def test_the_rate_of_nothing_is_0() -> None:
    assert PassRate(0, 0, 0.0, 1.0).value == Fraction(0)


# What was not asked.


def test_a_blocked_item_counts_as_not_passed() -> None:
    mqs = score_run(record(items(*[PASS] * 8, BLOCK, BLOCK)))
    assert (mqs.rate.passed, mqs.rate.total) == (8, 10)
    assert result(mqs) == (559, Grade.F, Status.BLOCKED)


def test_blocking_an_item_is_no_way_round_its_falsification() -> None:
    falsified = score_run(record(passes(9, of=11)))
    blocked = score_run(record(items(*[PASS] * 9, FALSE, BLOCK)))
    assert result(falsified) == result(blocked)


def test_a_timeout_counts_as_not_passed() -> None:
    mqs = score_run(record(items(PASS, TIMEOUT)))
    assert (mqs.rate.passed, mqs.rate.total) == (1, 2)


def test_a_blocked_p0_item_forbids_a_certificate() -> None:
    entries = [*items(*[PASS] * 99), Item(BLOCK, severity=Severity.P0)]
    mqs = score_run(record(entries, tier=Tier.DEEP))
    assert mqs.status is Status.PENDING
    assert "not asked: 1 P0 scenario items; all are, before a certificate" in mqs.remarks


def test_an_item_without_evidence_leaves_the_run_unscored() -> None:
    mqs = score_run(record(items(*[PASS] * 99, None)))
    assert result(mqs) == NOTHING
    assert mqs.remarks == ("partial run: 1 of 100 scenario items in scope have no evidence",)


def test_a_skip_without_an_excuse_leaves_the_run_unscored() -> None:
    assert result(score_run(record(items(*[PASS] * 99, SKIP)))) == NOTHING


@pytest.mark.parametrize("gateway", Gateway)
def test_a_gateway_that_did_not_run_leaves_the_run_unscored(gateway: Gateway) -> None:
    mqs = score_run(record(items(PASS), gates=gateways(TARGET, leave_out=gateway)))
    assert result(mqs) == NOTHING
    assert mqs.remarks == ("partial run: 4 of 5 gateways were evaluated",)


def test_a_plan_without_scenarios_is_not_scored() -> None:
    mqs = score_run(record([]))
    assert result(mqs) == NOTHING
    assert mqs.remarks == ("nothing was asked of the model",)


@pytest.mark.parametrize("tier", [None, *Tier])
def test_a_run_of_which_all_is_excused_is_not_scored(tier: Tier | None) -> None:
    mqs = score_run(record([EXCUSED, EXCUSED], tier=tier))
    assert result(mqs) == NOTHING
    assert mqs.remarks[0] == "nothing was asked of the model"


def test_an_interrupted_run_is_named_so() -> None:
    mqs = score_run(record(items(PASS, None), interrupted=True))
    assert result(mqs) == NOTHING
    assert mqs.remarks[0] == "the run was interrupted"


def test_a_stopped_line_is_named_with_its_reason() -> None:
    mqs = score_run(record(items(*[PASS] * 9, BLOCK), stopped="the time limit ran out"))
    assert mqs.remarks == ("the line was stopped: the time limit ran out",)


def test_executed_counts_what_was_put_to_the_model_and_planned_counts_all() -> None:
    entries = [*items(PASS, FALSE, TIMEOUT, BLOCK, SKIP, None), EXCUSED]
    mqs = score_run(record(entries))
    assert (mqs.executed, mqs.planned) == (3, 7)


def test_outcomes_are_counted() -> None:
    mqs = score_run(record(items(PASS, PASS, FALSE, BLOCK, None)))
    assert mqs.outcomes == {PASS: 2, FALSE: 1, BLOCK: 1}


# What is left out of scope.


@pytest.mark.parametrize("tier", [Tier.MVP, Tier.DEEP])
def test_an_excused_skip_leaves_the_scope_and_forbids_a_certificate(tier: Tier) -> None:
    mqs = score_run(record([*items(PASS, PASS), EXCUSED], tier=tier))
    assert (mqs.rate.passed, mqs.rate.total) == (2, 2)
    assert mqs.status is Status.PENDING
    assert "the score speaks of its scope only; a narrowed run is not certified" in mqs.remarks


def test_an_excused_skip_is_named_as_a_narrowing_with_its_reason() -> None:
    chat = replace(EXCUSED, modality=Modality.CHAT)
    mqs = score_run(record([Item(), chat, chat]))
    assert mqs.narrowings == (Narrowing(cells=f"{TARGET} × chat", reason="it was Skipped"),)


def test_an_excused_target_owes_no_gateways() -> None:
    mqs = score_run(record([Item(), replace(EXCUSED, target=OTHER)], gates=gateways(TARGET)))
    assert (mqs.gateways_run, mqs.gateways_owed) == (5, 5)
    assert mqs.points == 800


def test_the_scope_names_targets_and_modalities() -> None:
    entries = [
        Item(),
        Item(modality=Modality.CHAT),
        Item(),
        Item(target=OTHER),
        replace(EXCUSED, target=OTHER, modality=Modality.CHAT),
    ]
    assert score_run(record(entries)).scope == (f"{TARGET} × run, chat", f"{OTHER} × run")


def test_narrowing_the_matrix_to_one_easy_item_certifies_nothing() -> None:
    narrowing = Narrowing(cells="gguf, apr", reason="left out by --aprqa-format safetensors")
    mqs = score_run(record(items(PASS), tier=Tier.DEEP, narrowings=(narrowing,)))
    assert mqs.status is Status.PENDING
    assert mqs.narrowings == (narrowing,)


def test_narrowing_does_not_soften_a_blocked_run() -> None:
    narrowing = Narrowing(cells="gpu", reason="left out by --aprqa-backend cpu")
    assert score_run(record(passes(1, of=2), narrowings=(narrowing,))).status is Status.BLOCKED


# Gateways and P0.


@pytest.mark.parametrize("tier", [None, *Tier])
@pytest.mark.parametrize("gateway", Gateway)
def test_a_failed_gateway_zeroes_even_a_flawless_run(gateway: Gateway, tier: Tier | None) -> None:
    mqs = score_run(record(items(PASS, PASS), tier=tier, gates=gateways(TARGET, failing=gateway)))
    assert result(mqs) == ZERO
    assert mqs.remarks[0] == f"{gateway} of {TARGET} failed: seen"


def test_a_failed_gateway_zeroes_a_partial_run() -> None:
    failing = gateways(TARGET, failing=Gateway.G1)[:2]
    assert result(score_run(record(items(None, None), gates=failing))) == ZERO


def test_a_failed_gateway_of_one_target_zeroes_the_whole_run() -> None:
    gates = (*gateways(TARGET), *gateways(OTHER, failing=Gateway.G4))
    assert result(score_run(record([Item(), Item(target=OTHER)], gates=gates))) == ZERO


def test_a_failed_gateway_of_an_excused_target_still_counts() -> None:
    gates = (*gateways(TARGET), *gateways(OTHER, failing=Gateway.G0))
    entries = [Item(), replace(EXCUSED, target=OTHER)]
    assert result(score_run(record(entries, gates=gates))) == ZERO


@pytest.mark.parametrize("failure_first", [True, False])
def test_of_two_results_of_a_gateway_the_failure_stands(failure_first: bool) -> None:
    failure = gateways(TARGET, failing=Gateway.G2)[2]
    gates = (failure, *gateways(TARGET)) if failure_first else (*gateways(TARGET), failure)
    assert result(score_run(record(items(PASS), gates=gates))) == ZERO


def test_a_gateway_reported_twice_does_not_stand_in_for_one_that_did_not_run() -> None:
    gates = gateways(TARGET, leave_out=Gateway.G4)
    assert result(score_run(record(items(PASS), gates=(*gates, gates[0])))) == NOTHING


def test_the_gateways_of_one_target_do_not_stand_in_for_those_of_another() -> None:
    mqs = score_run(record([Item(), Item(target=OTHER)], gates=gateways(TARGET)))
    assert result(mqs) == NOTHING
    assert mqs.remarks == ("partial run: 5 of 10 gateways were evaluated",)


def test_a_crash_fails_g3_and_zeroes_the_run() -> None:
    mqs = score_run(record(items(*[PASS] * 99, CRASH)))
    assert result(mqs) == ZERO
    assert mqs.failed_gateways == (
        GatewayResult(gateway=Gateway.G3, target=TARGET, passed=False, reason="it was Crashed"),
    )


@pytest.mark.parametrize("outcome", [FALSE, TIMEOUT])
@pytest.mark.parametrize("tier", [None, *Tier])
def test_a_p0_item_that_does_not_hold_blocks(outcome: Outcome, tier: Tier | None) -> None:
    mqs = score_run(record([*items(*[PASS] * 99), Item(outcome, severity=Severity.P0)], tier=tier))
    assert mqs.status is Status.BLOCKED
    assert f"P0 falsified: {item_id(99)}" in mqs.remarks


def test_a_falsified_p0_keeps_a_tier_score_below_700() -> None:
    mqs = score_run(record([*items(*[PASS] * 99), Item(FALSE, severity=Severity.P0)]))
    assert result(mqs) == (692, Grade.F, Status.BLOCKED)


def test_a_falsified_p0_blocks_a_partial_run_too() -> None:
    mqs = score_run(record([Item(None), Item(FALSE, severity=Severity.P0)]))
    assert result(mqs) == (None, None, Status.BLOCKED)


# Evidence of one item that came twice.


@pytest.mark.parametrize(
    ("better", "worse"),
    [(PASS, FALSE), (PASS, TIMEOUT), (PASS, CRASH), (PASS, SKIP), (PASS, BLOCK), (SKIP, FALSE)],
)
def test_of_two_evidences_the_worse_stands(better: Outcome, worse: Outcome) -> None:
    alone = score_run(record(items(PASS, worse)))
    first = record(items(PASS, better), extra=[shown(1, Item(worse))])
    second = record(items(PASS, worse), extra=[shown(1, Item(better))])
    assert score_run(first) == score_run(second) == alone


@pytest.mark.parametrize("outcome", [FALSE, TIMEOUT, CRASH, BLOCK, SKIP])
def test_an_excuse_does_not_hide_a_worse_evidence(outcome: Outcome) -> None:
    alone = score_run(record(items(PASS, outcome)))
    first = record(items(PASS, outcome), extra=[shown(1, EXCUSED)])
    second = record([Item(), EXCUSED], extra=[shown(1, Item(outcome))])
    assert score_run(first) == score_run(second) == alone


def test_evidence_repeated_does_not_count_twice() -> None:
    entries = passes(8, of=10)
    again = [shown(0, entries[0])] * 100
    assert score_run(record(entries, extra=again)) == score_run(record(entries))
