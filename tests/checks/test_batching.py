"""The gate `batched_equals_alone`: what it passes, what it catches, where it has no meaning."""

from __future__ import annotations

from pytest_aprqa.checks.ahead import AheadEngine
from pytest_aprqa.checks.batching import COMPARED, TOGETHER, try_batching
from pytest_aprqa.domain.evidence import Check, Evidence, Outcome
from pytest_aprqa.domain.model_gates import GateCase, ModelGate
from pytest_aprqa.domain.tolerance import BATCH_NOISE
from pytest_aprqa.engines.engine import Engine
from tests.checks.batch_engines import TARGET, AloneEngine, BatchEngine, cases

GATE = GateCase(ModelGate.BATCHED, TARGET)
PROMPTS = [f"question {index}" for index in range(40)]


def tried(engine: Engine, count: int = 40) -> Evidence:
    return try_batching(GATE, AheadEngine(engine), cases(count), "q.playbook.yaml::t::batched")


def test_equal_answers_pass_with_their_numbers() -> None:
    engine = BatchEngine()
    evidence = tried(engine)
    assert evidence.outcome is Outcome.CORROBORATED
    assert (evidence.check, evidence.modality, evidence.scenario) == (
        Check.MODEL,
        None,
        "batched_equals_alone",
    )
    told = "8 of 8 answers from batches of up to 40 are those given alone (noise floor 0.001)"
    assert evidence.reason == told
    assert engine.batches == [40]
    assert len(engine.asked) == COMPARED
    assert evidence.measurements["equal"] == 8
    assert evidence.metrics is not None
    assert evidence.metrics.batch_size == 1
    assert evidence.metrics.tokens_per_second == 100  # 8 times 3 tokens in 0.03 s


def test_the_largest_batch_is_what_is_tried() -> None:
    engine = BatchEngine()
    tried(engine, count=200)
    assert engine.batches == [TOGETHER]


def test_answers_that_part_at_a_near_tie_pass() -> None:
    engine = BatchEngine(margin=0.0005, others=dict.fromkeys(PROMPTS, (1, 9, 3)))
    evidence = tried(engine)
    assert evidence.outcome is Outcome.CORROBORATED
    assert evidence.reason == (
        "0 of 8 answers from batches of up to 40 are those given alone; where they part, logits "
        "are at most 0.0005 apart (noise floor 0.001)"
    )


def test_answers_that_part_for_no_reason_do_not_pass() -> None:
    engine = BatchEngine(margin=0.01, others={PROMPTS[0]: (1, 9, 3)})
    evidence = tried(engine)
    assert evidence.outcome is Outcome.FALSIFIED
    assert evidence.reason == (
        "7 of 8 answers from batches of up to 40 are those given alone; where they part, logits "
        "are at most 0.01 apart (noise floor 0.001); to 'question 0' the batch answers "
        "'tokens (1, 9, 3)', alone it is 'tokens (1, 2, 3)'"
    )
    assert evidence.measurements["largest_margin"] > BATCH_NOISE["float32"]


def test_the_floor_is_that_of_the_engine_s_type() -> None:
    others = dict.fromkeys(PROMPTS, (1, 9, 3))
    half = BatchEngine(margin=0.4, dtype="bfloat16", others=others)
    assert tried(half).outcome is Outcome.CORROBORATED
    assert tried(BatchEngine(margin=0.4, others=others)).outcome is Outcome.FALSIFIED
    assert tried(BatchEngine(margin=0.6, dtype="bfloat16", others=others)).outcome is (
        Outcome.FALSIFIED
    )


def test_an_answer_that_is_cut_short_in_the_batch_does_not_pass() -> None:
    evidence = tried(BatchEngine(others={PROMPTS[0]: (1, 2)}))
    assert evidence.outcome is Outcome.FALSIFIED
    assert evidence.measurements["largest_margin"] == 1e30


def test_a_batch_that_breaks_is_a_crash() -> None:
    evidence = tried(BatchEngine(breaks=True))
    assert evidence.outcome is Outcome.CRASHED
    assert evidence.reason == "the engine crashed: RuntimeError: the batch broke"


def test_where_nothing_is_batched_the_gate_has_no_meaning() -> None:
    alone = tried(AloneEngine())
    assert (alone.outcome, alone.excused, alone.applicable) == (Outcome.SKIPPED, True, False)
    assert alone.reason == "scripted answers one request at a time"
    refused = tried(BatchEngine(others=dict.fromkeys(PROMPTS, None)))
    assert (refused.outcome, refused.applicable) == (Outcome.SKIPPED, False)
    assert refused.reason == "scripted took none of the questions into a batch"
