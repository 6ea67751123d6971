"""Wrong answers to each kind of question, and right ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.proof import Proof, Tampered
from pytest_aprqa.checks.gates.served.questions import CaseLab, OracleLab
from pytest_aprqa.domain.case import Case, Judging, Target
from pytest_aprqa.domain.gate_ids import NOT_BLANK, ORACLES, gate_id
from pytest_aprqa.domain.model import Backend, Format, Modality, Severity
from pytest_aprqa.domain.oracle_spec import (
    ArithmeticSpec,
    CodeSyntaxSpec,
    CompositeSpec,
    ContainsSpec,
    ExactSpec,
    GarbageSpec,
    OneOfSpec,
    OracleSpec,
    RegexSpec,
    ResponseSpec,
)
from pytest_aprqa.domain.playbook import Category

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.proof import ProofBench
    from pytest_aprqa.domain.completion import Completion, GenerationRequest
    from pytest_aprqa.engines.engine import Engine

_SUM = "What is 2 + 2?"


def _case(modality: Modality, backend: Backend) -> Case:
    return Case(
        target=Target("embedded/aprqa-tiny", Format.SAFETENSORS, None, backend),
        modality=modality,
        scenario="sum",
        index=0,
        turns=(_SUM,),
        system=None,
        judging=Judging(named=(ArithmeticSpec(expected=4),)),
        max_tokens=16,
        temperature=0.0,
        seed=0,
        timeout_ms=60_000,
        stop=(),
        severity=Severity.P1,
        category=Category.QUAL,
    )


def _wrong(engine: Engine, request: GenerationRequest) -> Completion:
    return replace(engine.generate(request), text="2 + 2 is 5.")


def _cell(modality: Modality, backend: Backend) -> Proof:
    case = _case(modality, backend)

    def planted(bench: ProofBench) -> CaseLab:
        tampered: Any = Tampered(bench.engine(), generate=_wrong)
        return CaseLab(case, tampered)

    return Proof(
        gate_id(modality, backend),
        "the engine says that 2 + 2 is 5",
        planted,
        lambda bench: CaseLab(case, bench.engine()),
    )


def _judged(spec: OracleSpec, question: str, answer: str) -> Callable[[ProofBench], OracleLab]:
    return lambda _bench: OracleLab(spec, question, answer)


def _oracle(spec: OracleSpec, question: str, *, right: str, wrong: str, defect: str) -> Proof:
    return Proof(
        ORACLES[spec.type], defect, _judged(spec, question, wrong), _judged(spec, question, right)
    )


_ORACLES = (
    _oracle(
        ArithmeticSpec(), _SUM, right="It is 4.", wrong="It is 5.", defect="2 + 2 is said to be 5"
    ),
    _oracle(
        GarbageSpec(),
        "Tell me of the sea.",
        right="The sea is wide and blue, and its waves never rest.",
        wrong="The sea\x00\x01\x02 is \x1b\x07wide and blue\x08\x0e",
        defect="control characters stand in the answer",
    ),
    _oracle(
        CodeSyntaxSpec(language="python"),
        "Write a Python function to add two numbers.",
        right="```python\ndef add(a, b):\n    return a + b\n```",
        wrong="```python\ndef add(a, b)\n    return a +\n```",
        defect="the code lacks a colon and an operand",
    ),
    _oracle(
        ExactSpec(expected="Paris"),
        "The capital of France?",
        right="Paris",
        wrong="Paris, I think",
        defect="the answer says more than the text expected",
    ),
    _oracle(
        ContainsSpec(expected=("red", "green")),
        "Name two colours.",
        right="Red and green.",
        wrong="Red and blue.",
        defect="one of two texts is missing",
    ),
    _oracle(
        OneOfSpec(expected=("yes", "no")),
        "Is it so?",
        right="Yes.",
        wrong="Perhaps.",
        defect="the answer is none of those expected",
    ),
    _oracle(
        RegexSpec(pattern=r"\b\d{4}\b"),
        "In which year?",
        right="It was in 1905.",
        wrong="It was in '05.",
        defect="the year has two digits",
    ),
    _oracle(
        ResponseSpec(max_words=5),
        "Describe the sea in at most five words.",
        right="The sea is wide, blue.",
        wrong="The sea is a very wide and very blue thing.",
        defect="the answer has more words than asked for",
    ),
    _oracle(
        CompositeSpec(all=(ContainsSpec(expected="4"),), none=(ContainsSpec(expected="5"),)),
        _SUM,
        right="It is 4.",
        wrong="It is 4, or 5.",
        defect="the answer holds what it must not",
    ),
)
PROOFS = (
    *(_cell(modality, backend) for modality in Modality for backend in Backend),
    *_ORACLES,
    Proof(
        NOT_BLANK,
        "the answer is white space",
        _judged(GarbageSpec(), _SUM, " \n"),
        _judged(GarbageSpec(), _SUM, "It is 4."),
    ),
)
