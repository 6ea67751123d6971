"""How a case ends when its engine crashes or has to be killed."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_aprqa.checks.scenario import try_case
from pytest_aprqa.domain.case import Case, Judging, Target
from pytest_aprqa.domain.completion import Completion, FinishReason, GenerationRequest
from pytest_aprqa.domain.evidence import Outcome
from pytest_aprqa.domain.model import Backend, Format, Modality, Severity
from pytest_aprqa.domain.oracle_spec import ArithmeticSpec
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.engines.engine import EngineCrashed, EngineHung
from pytest_aprqa.plugin.explain import explain
from tests.engines.scripted import ScriptedEngine

STACK = '  File "model.py", line 7 in attend\n  File "engine.py", line 3 in generate'
CASE = Case(
    target=Target("m", Format.SAFETENSORS, None, Backend.CPU),
    modality=Modality.RUN,
    scenario="sum",
    index=0,
    turns=("What is 2 + 2?",),
    system=None,
    judging=Judging(named=(ArithmeticSpec(),)),
    max_tokens=8,
    temperature=0.0,
    seed=0,
    timeout_ms=100,
    stop=(),
    severity=Severity.P1,
    category=Category.QUAL,
)


class Ends(ScriptedEngine):
    """An engine whose answer ends as it is told."""

    def __init__(self, how: Any) -> None:
        super().__init__()
        self._how = how

    def generate(self, request: GenerationRequest) -> Completion:
        if isinstance(self._how, Exception):
            raise self._how
        found: Completion = self._how
        return found


def test_a_crash_keeps_its_stack_apart_from_the_output() -> None:
    crash = EngineCrashed("transformers died of SIGSEGV", STACK + "\n")
    evidence = try_case(CASE, Ends(crash), "id")
    assert evidence.outcome is Outcome.CRASHED
    assert evidence.reason == "the engine crashed: transformers died of SIGSEGV"
    assert evidence.output == ""
    assert evidence.diagnosis == STACK
    shown = explain(evidence)
    assert '  where      File "model.py", line 7 in attend\n' in shown
    assert '             File "engine.py", line 3 in generate\n' in shown


def test_an_engine_that_hung_is_a_timeout_with_its_stack() -> None:
    hung = EngineHung("transformers hangs: no answer within 2 s; it was killed", STACK)
    evidence = try_case(CASE, Ends(hung), "id")
    assert evidence.outcome is Outcome.TIMEOUT
    assert evidence.reason == "transformers hangs: no answer within 2 s; it was killed"
    assert evidence.diagnosis == STACK


@pytest.mark.parametrize("diagnosis", ["", STACK])
def test_a_timeout_says_where_the_engine_was(diagnosis: str) -> None:
    late = Completion("", (), 3, FinishReason.TIMEOUT, None, 0.4, 9, "asked", diagnosis=diagnosis)
    evidence = try_case(CASE, Ends(late), "id")
    assert evidence.outcome is Outcome.TIMEOUT
    assert evidence.reason == "no complete answer within 100 ms; 0 tokens were generated"
    assert evidence.diagnosis == diagnosis
    assert ("  where " in explain(evidence)) == bool(diagnosis)


def test_an_answer_has_no_diagnosis() -> None:
    evidence = try_case(CASE, ScriptedEngine(), "id")
    assert evidence.outcome is Outcome.CORROBORATED
    assert (evidence.output, evidence.diagnosis) == ("4", "")
