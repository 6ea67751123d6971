"""What a unit is thought to cost, and what is remembered of it from run to run."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pytest_aprqa.domain.gateways import Gateway, gateway_item_name
from pytest_aprqa.plugin.costs import TORCH_START_S, Tally, Timing, UnitCost, estimate
from pytest_aprqa.plugin.timings import CACHE_KEY, Timekeeper, known_timings, merged

TARGETS = ("conversion", "safetensors-cpu", "apr-q8_0-cpu", "gguf-q8_0-cpu")


def unit(target: str) -> str:
    return f"a/m.playbook.yaml::{target}"


def named(count: int) -> list[str]:
    return [f"i{i}" for i in range(count)]


def total(target: str, items: int = 20, *, absent: bool = False) -> float:
    return estimate(unit(target), named(items), {}, absent=absent).total(items)


def test_conversions_cost_most_and_gguf_least_and_an_absent_device_next_to_nothing() -> None:
    costs = [total(target) for target in TARGETS]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > 1.5 * costs[1]
    assert costs[2] > 4 * costs[3]
    assert total("safetensors-gpu", 1000, absent=True) == pytest.approx(1.0)


@pytest.mark.parametrize("target", TARGETS)
def test_more_items_cost_more(target: str) -> None:
    assert total(target, 40) > total(target, 20)


def test_torch_is_paid_for_once_in_a_process() -> None:
    for target, pays in [("safetensors-cpu", True), ("gguf-gpu", True), ("gguf-cpu", False)]:
        cost = estimate(unit(target), named(3), {})
        extra = cost.load_in(warm=False) - cost.load_in(warm=True)
        assert extra == (TORCH_START_S if pays else 0.0)


def test_gates_of_a_server_weigh_more_than_a_prompt_and_gateways_are_no_items() -> None:
    gates = [gateway_item_name(gateway, "gguf-cpu") for gateway in Gateway]
    plain = estimate(unit("gguf-cpu"), [*gates, "a-gguf-cpu-run"], {})
    mixed = estimate(unit("gguf-cpu"), [*gates, "a-gguf-cpu-run", "serve_errors-gguf-cpu"], {})
    assert plain.item_s == estimate(unit("gguf-cpu"), ["a-gguf-cpu-run"], {}).item_s
    assert mixed.item_s > 5 * plain.item_s


def test_what_an_earlier_run_measured_goes_before_a_guess() -> None:
    known = {unit("gguf-cpu"): Timing(10, 50.0, 7.0)}
    cost = estimate(unit("gguf-cpu"), named(4), known)
    assert (cost.load_s, cost.item_s) == (7.0, 5.0)
    assert estimate("b/m.playbook.yaml::gguf-cpu", named(4), known).item_s < 1
    assert estimate(unit("gguf-cpu"), named(4), known, absent=True).total(4) < 0.1


def test_this_run_corrects_a_guess_sooner_than_what_is_known() -> None:
    tally = Tally()
    for seconds in (3.0, 8.0, 8.0):
        tally.count(seconds, "gw0", gateway=False, cold=False)
    guessed = tally.correct(UnitCost(1.0, 1.0))
    certain = tally.correct(UnitCost(1.0, 1.0, weight=20))
    assert guessed.load_s == certain.load_s == 3.0
    assert 1.0 < certain.item_s < 2.0 < guessed.item_s < 8.0


def test_gateways_or_the_first_item_are_the_loading_in_each_worker() -> None:
    tally = Tally()
    assert tally.timing() is None
    for seconds in (TORCH_START_S + 1.0, 0.5, 0.25):
        tally.count(seconds, "gw0", gateway=True, cold=True)
    assert tally.timing() is None
    assert tally.correct(UnitCost(1.0, 0.1)).load_s == 1.75
    tally.count(0.1, "gw0", gateway=False, cold=True)
    tally.count(1.5, "gw1", gateway=False, cold=False)
    tally.count(0.3, "gw1", gateway=False, cold=False)
    timing = tally.timing()
    assert timing is not None
    assert (timing.items, timing.load_s) == (2, 1.75)
    assert timing.seconds == pytest.approx(0.4)


class Cache:
    def __init__(self, stored: object) -> None:
        self.stored = {CACHE_KEY: stored}

    def get(self, key: str, default: object) -> object:
        return self.stored.get(key, default)

    def set(self, key: str, value: object) -> None:
        self.stored[key] = value


class Config:
    def __init__(self, stored: object) -> None:
        self.cache = Cache(stored)


def config_of(stored: object) -> pytest.Config:
    return cast(pytest.Config, Config(stored))


GOOD = {"items": 3, "seconds": 1.5, "load_s": 2}


@pytest.mark.parametrize(
    "damage",
    [
        None,
        [],
        "3",
        {},
        GOOD | {"items": 0},
        GOOD | {"items": "3"},
        GOOD | {"seconds": -1.0},
        GOOD | {"seconds": float("nan")},
        GOOD | {"load_s": None},
        GOOD | {"load_s": True},
        GOOD | {"more": 1},
    ],
)
def test_a_damaged_entry_is_left_out_and_the_others_stand(damage: Any) -> None:
    assert known_timings(config_of({"a": damage, "b": GOOD})) == {"b": Timing(3, 1.5, 2.0)}


@pytest.mark.parametrize("stored", [None, [], "text", 3])
def test_a_damaged_cache_is_no_knowledge(stored: object) -> None:
    assert known_timings(config_of(stored)) == {}


def test_without_a_cache_nothing_is_known_and_nothing_kept() -> None:
    bare = cast(pytest.Config, object())
    assert known_timings(bare) == {}
    keeper = Timekeeper(bare, lambda: {"a": Timing(3, 1.0, 1.0)}, lambda node_id: None)
    keeper.pytest_sessionfinish()
    assert known_timings(bare) == {}


def test_a_run_of_a_few_items_does_not_displace_what_many_have_shown() -> None:
    known = {"a": Timing(40, 40.0, 1.0), "b": Timing(40, 40.0, 1.0), "c": Timing(1, 1.0, 1.0)}
    measured = {"a": Timing(2, 9.0, 1.0), "b": Timing(20, 30.0, 2.0), "d": Timing(1, 1.0, 1.0)}
    kept = merged(known, measured)
    assert kept == {**known, "b": measured["b"], "d": measured["d"]}
    assert list(kept)[-2:] == ["b", "d"]


def test_only_the_newest_thousand_are_kept() -> None:
    known = {f"u{i}": Timing(1, 1.0, 1.0) for i in range(1000)}
    kept = merged(known, {"new": Timing(1, 1.0, 1.0)})
    assert len(kept) == 1000
    assert "u0" not in kept
    assert "new" in kept


def test_what_was_measured_is_stored_beside_what_is_known() -> None:
    config = config_of({"a": GOOD})
    Timekeeper(
        config, lambda: {"b": Timing(2, 1.0, 0.5)}, lambda node_id: None
    ).pytest_sessionfinish()
    assert known_timings(config) == {"a": Timing(3, 1.5, 2.0), "b": Timing(2, 1.0, 0.5)}
