"""A record that was edited or mixed is refused; one that was thinned out never claims more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.evidence import PlannedRun, RunRecord, VerdictRecord
from pytest_aprqa.domain.gateways import Gateway
from pytest_aprqa.domain.model import Severity, Tier
from pytest_aprqa.domain.mqs import Mqs, score_run
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.scoring import Status
from pytest_aprqa.domain.verdict import Ruling
from tests.domain.run_records import (
    BLOCK,
    CRASH,
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
    planned,
    record,
    shown,
)

SUFFIX = ": the record mixes runs or was edited; run the playbook again"


def refusal(changed: RunRecord) -> str:
    with pytest.raises(AprqaError) as caught:
        score_run(changed)
    text = str(caught.value)
    assert text.endswith(SUFFIX)
    return text.removesuffix(SUFFIX)


def with_plan(
    base: RunRecord, *, scenarios: list[tuple[int, Item]], targets: tuple[str, ...]
) -> RunRecord:
    plan = PlannedRun(targets=targets, scenarios=tuple(planned(*entry) for entry in scenarios))
    return base.model_copy(update={"plan": plan})


def test_evidence_of_an_unplanned_item_is_refused() -> None:
    changed = record(items(FALSE), extra=[shown(7, Item())])
    assert refusal(changed) == (f"evidence of {item_id(7)!r}, which the plan of q does not name")


def test_an_item_planned_twice_is_refused() -> None:
    easy = [(0, Item())] * 9
    changed = with_plan(record(passes(1, of=2)), scenarios=[*easy, (1, Item())], targets=(TARGET,))
    assert refusal(changed) == f"the plan of q names {item_id(0)!r} 9 times"


def test_a_planned_target_of_which_nothing_is_asked_is_refused() -> None:
    changed = with_plan(record(items(PASS)), scenarios=[(0, Item())], targets=(TARGET, OTHER))
    assert refusal(changed) == f"the plan of q names the target {OTHER!r}, but not in its scenarios"


def test_an_item_of_a_target_that_is_not_planned_is_refused() -> None:
    changed = with_plan(record(items(PASS)), scenarios=[(0, Item())], targets=())
    assert refusal(changed) == f"the plan of q names the target {TARGET!r}, but not in its targets"


@pytest.mark.parametrize("failing", [None, Gateway.G0])
def test_a_gateway_of_an_unplanned_target_is_refused(failing: Gateway | None) -> None:
    gates = (*gateways(TARGET), *gateways(OTHER, failing=failing))
    assert refusal(record(items(PASS), gates=gates)) == (
        f"G0 of the target {OTHER!r}, which the plan of q does not name"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"severity": Severity.P1}, "severity P1, where the plan has P0"),
        ({"category": Category.PERF}, "category PERF, where the plan has QUAL"),
        ({"target": OTHER}, f"target {OTHER}, where the plan has {TARGET}"),
        ({"scenario": "easier"}, "scenario easier, where the plan has scenario_0"),
        ({"backend": "gpu"}, "backend gpu, where the plan has cpu"),
        ({"format": "gguf"}, "format gguf, where the plan has safetensors"),
        ({"modality": "chat"}, "modality chat, where the plan has run"),
    ],
)
def test_evidence_that_is_not_of_its_planned_item_is_refused(
    change: dict[str, Any], told: str
) -> None:
    item = Item(FALSE, severity=Severity.P0)
    evidence = shown(0, item).model_copy(update=change)
    base = record([replace(item, outcome=None), *items(*[PASS] * 99)], extra=[evidence])
    assert refusal(base) == f"evidence of {item_id(0)!r} with {told}"


@pytest.mark.parametrize(
    ("rulings", "told"),
    [
        ((), "none"),
        ((Ruling.INAPPLICABLE,), "inapplicable"),
        ((Ruling.FALSIFIED,), "falsified"),
        ((Ruling.CORROBORATED, Ruling.FALSIFIED), "corroborated, falsified"),
    ],
)
def test_a_pass_that_no_oracle_gave_is_refused(rulings: tuple[Ruling, ...], told: str) -> None:
    verdicts = tuple(VerdictRecord(oracle="o", ruling=ruling, reason="r") for ruling in rulings)
    evidence = shown(0, Item()).model_copy(update={"verdicts": verdicts})
    assert refusal(record(items(None), extra=[evidence])) == (
        f"evidence of {item_id(0)!r} is Corroborated, but its verdicts are: {told}"
    )


def test_a_pass_beside_an_inapplicable_oracle_is_a_pass() -> None:
    verdicts = tuple(
        VerdictRecord(oracle="o", ruling=ruling, reason="r")
        for ruling in (Ruling.INAPPLICABLE, Ruling.CORROBORATED)
    )
    evidence = shown(0, Item()).model_copy(update={"verdicts": verdicts})
    assert score_run(record(items(None), extra=[evidence])).points == 800


# Whatever happens to the evidence of a run, it claims no more than before.

_CLAIMS = {Status.BLOCKED: 0, Status.PENDING: 0, Status.PROVISIONAL: 1, Status.CERTIFIED: 2}


def points(mqs: Mqs) -> int:
    return -1 if mqs.points is None else mqs.points


def claim(mqs: Mqs) -> int:
    return _CLAIMS[mqs.status]


_severities = st.sampled_from(Severity)
_categories = st.sampled_from([Category.QUAL, Category.EDGE])
_targets = st.sampled_from([TARGET, OTHER])


def _item_lists(*outcomes: object, passing: int = 0) -> st.SearchStrategy[list[Item]]:
    drawn = st.lists(
        st.builds(
            Item,
            outcome=st.sampled_from(outcomes),
            excused=st.booleans(),
            severity=_severities,
            category=_categories,
            target=_targets,
        ),
        min_size=1,
        max_size=12,
    )
    # Enough passes beside them that thresholds are met often.
    return st.tuples(drawn, st.integers(0, passing)).map(
        lambda both: [*both[0], *items(*[PASS] * both[1])]
    )


_any_items = _item_lists(PASS, FALSE, TIMEOUT, CRASH, SKIP, BLOCK, None, passing=60)
_asked_items = _item_lists(PASS, FALSE, TIMEOUT, passing=60)
_settled_items = _item_lists(PASS, FALSE, TIMEOUT, CRASH, BLOCK, passing=60)
_tiers = st.sampled_from([None, *Tier])


@given(_asked_items, _tiers, st.sampled_from([FALSE, TIMEOUT, CRASH, SKIP, BLOCK, None]), st.data())
def test_a_pass_taken_away_never_raises_points_or_claim(
    entries: list[Item], tier: Tier | None, outcome: Any, data: st.DataObject
) -> None:
    entries = [*entries, Item(severity=data.draw(_severities), target=data.draw(_targets))]
    changed = [
        *entries[:-1],
        replace(entries[-1], outcome=outcome, excused=data.draw(st.booleans())),
    ]
    before, after = score_run(record(entries, tier=tier)), score_run(record(changed, tier=tier))
    assert claim(after) <= claim(before)
    assert points(after) <= points(before) or after.narrowings


@given(_any_items, _tiers, st.data())
def test_evidence_removed_never_raises_the_claim(
    entries: list[Item], tier: Tier | None, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(entries) - 1))
    changed = [*entries[:index], replace(entries[index], outcome=None), *entries[index + 1 :]]
    before, after = score_run(record(entries, tier=tier)), score_run(record(changed, tier=tier))
    assert claim(after) <= claim(before)
    assert after.points in (None, 0)


@given(
    _settled_items, _tiers, st.sampled_from([PASS, FALSE, TIMEOUT, CRASH, SKIP, BLOCK]), st.data()
)
def test_a_second_evidence_of_an_item_never_raises_points_or_claim(
    entries: list[Item], tier: Tier | None, outcome: Any, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(entries) - 1))
    before = score_run(record(entries, tier=tier))
    after = score_run(record(entries, tier=tier, extra=[shown(index, entries[index], outcome)]))
    assert claim(after) <= claim(before)
    assert points(after) <= points(before) or after.narrowings


@given(_any_items, _tiers, st.data())
def test_an_excuse_never_certifies(
    entries: list[Item], tier: Tier | None, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(entries) - 1))
    excused = replace(entries[index], outcome=SKIP, excused=True)
    changed = [*entries[:index], excused, *entries[index + 1 :]]
    assert claim(score_run(record(changed, tier=tier))) == 0


@given(_any_items, _tiers)
def test_only_a_complete_and_whole_run_of_its_tier_is_certified(
    entries: list[Item], tier: Tier | None
) -> None:
    mqs = score_run(record(entries, tier=tier))
    if claim(mqs):
        assert tier in (Tier.MVP, Tier.DEEP)
        assert all(item.outcome in (PASS, FALSE, TIMEOUT, BLOCK) for item in entries)
        assert all(item.outcome is PASS for item in entries if item.severity is Severity.P0)
        assert mqs.rate.value >= 0.9
        assert mqs.status is Status.PROVISIONAL or tier is Tier.DEEP


@given(_any_items, _tiers, st.sampled_from(Gateway), _targets)
def test_a_gateway_that_fails_leaves_no_points(
    entries: list[Item], tier: Tier | None, gateway: Gateway, target: str
) -> None:
    entries = [*entries, Item(target=target)]
    base = record(entries, tier=tier)
    failure = next(
        result.model_copy(update={"passed": False})
        for result in base.gateways
        if (result.gateway, result.target) == (gateway, target)
    )
    mqs = score_run(base.model_copy(update={"gateways": (*base.gateways, failure)}))
    assert (mqs.points, mqs.grade, mqs.status) == (0, "F", Status.BLOCKED)


@given(_any_items, _tiers, st.data())
def test_the_order_of_evidence_and_gateways_does_not_matter(
    entries: list[Item], tier: Tier | None, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(entries) - 1))
    twice = [
        shown(index, entries[index], data.draw(st.sampled_from([PASS, FALSE, SKIP, CRASH])), text)
        for text in ("one reason", "another")
    ]
    base = record(entries, tier=tier, extra=twice)
    shuffled = base.model_copy(
        update={
            "evidence": tuple(data.draw(st.permutations(base.evidence))),
            "gateways": tuple(data.draw(st.permutations(base.gateways))),
        }
    )
    assert score_run(shuffled) == score_run(base)


@given(_any_items, _tiers)
def test_the_score_follows_from_the_record_alone(entries: list[Item], tier: Tier | None) -> None:
    base = record(entries, tier=tier)
    again = RunRecord.model_validate_json(base.model_dump_json())
    assert score_run(base) == score_run(base) == score_run(again)
