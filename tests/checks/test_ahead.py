"""Questions generated ahead: every one is answered once, and alone where the batch cannot."""

from __future__ import annotations

import pytest

from pytest_aprqa.checks.ahead import WINDOW, AheadEngine
from pytest_aprqa.checks.scenario import first_request, try_case
from pytest_aprqa.domain.evidence import Outcome
from pytest_aprqa.domain.model import Modality
from tests.checks.batch_engines import AloneEngine, BatchEngine, case, cases


def test_answers_come_from_the_batch_and_say_so() -> None:
    engine = BatchEngine()
    ahead = AheadEngine(engine)
    asked = cases(20)
    ahead.prepare(asked)
    evidence = [try_case(entry, ahead, f"id{entry.index}") for entry in asked]
    assert engine.batches == [20]
    assert engine.asked == []
    metrics = [item.metrics for item in evidence if item.metrics is not None]
    assert [m.batch_size for m in metrics] == [20] * 20
    assert {m.tokens_per_second for m in metrics} == {None}  # its time is the batch's


def test_an_answer_is_given_once() -> None:
    engine = BatchEngine()
    ahead = AheadEngine(engine)
    ahead.prepare(cases(8))
    request = first_request(case(3))
    assert ahead.generate(request).batch_size == 8
    assert ahead.generate(request).alone
    assert engine.asked == ["question 3"]


def test_what_a_batch_leaves_out_is_asked_alone() -> None:
    engine = BatchEngine(others={"question 2": None})
    ahead = AheadEngine(engine)
    ahead.prepare(cases(8))
    assert ahead.generate(first_request(case(2))).alone
    assert engine.asked == ["question 2"]
    ahead.prepare(cases(8))
    assert engine.batches == [8]  # it was tried: no batch is made for it again


def test_a_batch_that_breaks_is_no_outcome_of_its_questions() -> None:
    engine = BatchEngine(breaks=True)
    ahead = AheadEngine(engine)
    ahead.prepare(cases(8))
    evidence = try_case(case(1), ahead, "id")
    assert evidence.outcome is not Outcome.CRASHED
    assert engine.asked == ["question 1"]
    ahead.prepare(cases(40))
    assert engine.batches == [8]
    assert not ahead.batches


def test_a_window_is_generated_at_a_time() -> None:
    engine = BatchEngine()
    ahead = AheadEngine(engine)
    asked = cases(WINDOW + 30)
    ahead.prepare(asked)
    assert engine.batches == [WINDOW]
    ahead.prepare(asked[WINDOW:])
    assert engine.batches == [WINDOW, 30]


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.8},
        {"turns": ("one", "two"), "modality": Modality.CHAT},
        {"modality": Modality.SERVE},
    ],
    ids=["sampled", "two turns", "served"],
)
def test_only_greedy_questions_of_one_turn_are_batched(settings: dict[str, object]) -> None:
    engine = BatchEngine()
    ahead = AheadEngine(engine)
    ahead.prepare([case(index, **settings) for index in range(20)])
    assert engine.batches == []


def test_few_questions_are_not_worth_a_batch() -> None:
    engine = BatchEngine()
    AheadEngine(engine).prepare(cases(7))
    assert engine.batches == []


def test_an_engine_without_batches_is_asked_as_ever() -> None:
    engine = AloneEngine()
    ahead = AheadEngine(engine)
    ahead.prepare(cases(20))
    assert not ahead.batches
    assert ahead.generate(first_request(case(0))).alone
    assert engine.asked == ["question 0"]


def test_it_is_the_engine_in_all_else() -> None:
    engine = BatchEngine()
    ahead = AheadEngine(engine)
    assert (ahead.name, ahead.version, ahead.device) == ("scripted", "1", "cpu")
    assert ahead.tokenize("abc", special=True) == (3,)
    assert ahead.logits([1, 2]).shape == (2, 32)
    assert ahead.describe()["engine"] == "scripted 1"
    ahead.close()
    assert engine.closed
