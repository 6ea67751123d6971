from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_aprqa.domain.model import Backend, Format, Modality, Tier
from pytest_aprqa.domain.tiers import TIER_RULES, Depth, depth_of, rule_for

MINUTE, HOUR = 60, 3600
SAFETENSORS, CPU, RUN, CHAT = Format.SAFETENSORS, Backend.CPU, Modality.RUN, Modality.CHAT


@pytest.mark.parametrize(
    ("tier", "formats", "backends", "modalities"),
    [
        (Tier.SMOKE, {SAFETENSORS}, {CPU}, {RUN}),
        (Tier.MVP, set(Format), set(Backend), set(Modality)),
        (Tier.QUICK, set(Format), {CPU}, {RUN, CHAT}),
        (Tier.STANDARD, set(Format), set(Backend), set(Modality)),
        (Tier.DEEP, set(Format), set(Backend), set(Modality)),
        (None, set(Format), set(Backend), set(Modality)),
    ],
)
def test_a_tier_takes_these_cells(
    tier: Tier | None, formats: set[Format], backends: set[Backend], modalities: set[Modality]
) -> None:
    rule = rule_for(tier)
    assert (set(rule.formats), set(rule.backends), set(rule.modalities)) == (
        formats,
        backends,
        modalities,
    )


def test_mvp_has_18_cells() -> None:
    rule = rule_for(Tier.MVP)
    assert len(rule.formats) * len(rule.backends) * len(rule.modalities) == 18


@pytest.mark.parametrize(
    ("tier", "seconds"),
    [
        (Tier.SMOKE, 2 * MINUTE),
        (Tier.MVP, 10 * MINUTE),
        (Tier.QUICK, 30 * MINUTE),
        (Tier.STANDARD, 2 * HOUR),
        (Tier.DEEP, 24 * HOUR),
        (None, 24 * HOUR),
    ],
)
def test_a_tier_takes_this_long_at_most(tier: Tier | None, seconds: float) -> None:
    assert rule_for(tier).time_limit_s == seconds


def test_every_tier_has_a_rule() -> None:
    assert set(TIER_RULES) == set(Tier)


@pytest.mark.parametrize(
    ("tier", "listed", "depth"),
    [
        (Tier.SMOKE, 0, Depth(0, 3)),
        (Tier.SMOKE, 2, Depth(2, 0)),
        (Tier.SMOKE, 3, Depth(3, 0)),
        (Tier.SMOKE, 50, Depth(3, 0)),
        (Tier.MVP, 0, Depth(0, 1)),
        (Tier.MVP, 1, Depth(1, 0)),
        (Tier.MVP, 50, Depth(50, 0)),
        (Tier.QUICK, 0, Depth(0, 10)),
        (Tier.QUICK, 4, Depth(4, 6)),
        (Tier.QUICK, 50, Depth(10, 0)),
        (Tier.STANDARD, 0, Depth(0, 25)),
        (Tier.STANDARD, 4, Depth(4, 21)),
        (Tier.STANDARD, 50, Depth(25, 0)),
        (Tier.DEEP, 0, Depth(0, 100)),
        (Tier.DEEP, 4, Depth(4, 96)),
        (Tier.DEEP, 250, Depth(250, 0)),
        (None, 0, Depth(0, 1)),
        (None, 4, Depth(4, 0)),
    ],
)
def test_a_tier_takes_so_many_scenarios_of_those_listed(
    tier: Tier | None, listed: int, depth: Depth
) -> None:
    assert depth_of(tier, listed=listed, scenario_count=None) == depth


@pytest.mark.parametrize(
    ("tier", "listed", "count", "depth"),
    [
        (Tier.SMOKE, 50, 1, Depth(1, 0)),
        (Tier.SMOKE, 50, 100, Depth(3, 0)),
        (Tier.MVP, 5, 1, Depth(1, 0)),
        (Tier.MVP, 0, 100, Depth(0, 1)),
        (Tier.QUICK, 2, 5, Depth(2, 3)),
        (Tier.QUICK, 2, 100, Depth(2, 8)),
        (Tier.STANDARD, 0, 7, Depth(0, 7)),
        (Tier.DEEP, 4, 50, Depth(4, 46)),
        (Tier.DEEP, 4, 1000, Depth(4, 96)),
        (Tier.DEEP, 250, 50, Depth(50, 0)),
        (None, 4, 10, Depth(4, 6)),
        (None, 4, 2, Depth(2, 0)),
        (None, 0, 1000, Depth(0, 1000)),
    ],
)
def test_scenario_count_caps_every_tier_and_is_the_depth_without_one(
    tier: Tier | None, listed: int, count: int, depth: Depth
) -> None:
    assert depth_of(tier, listed=listed, scenario_count=count) == depth


@given(
    st.sampled_from([None, *Tier]),
    st.integers(0, 300),
    st.none() | st.integers(1, 1000),
)
def test_a_run_asks_something_and_never_more_than_is_listed_or_allowed(
    tier: Tier | None, listed: int, count: int | None
) -> None:
    depth = depth_of(tier, listed=listed, scenario_count=count)
    assert 0 <= depth.listed <= listed
    assert depth.generated >= 0
    assert depth.listed + depth.generated >= 1
    if count is not None:
        assert depth.listed + depth.generated <= count


@given(st.sampled_from([None, *Tier]), st.integers(0, 300), st.none() | st.integers(1, 1000))
def test_nothing_is_generated_while_listed_scenarios_are_left(
    tier: Tier | None, listed: int, count: int | None
) -> None:
    depth = depth_of(tier, listed=listed, scenario_count=count)
    assert depth.generated == 0 or depth.listed == listed
