"""Scenarios and oracles as gates: one for each cell of the matrix, one for each oracle."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import Lab
from pytest_aprqa.domain.evidence import Evidence, Outcome
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.gate_ids import NOT_BLANK, ORACLES, gate_id
from pytest_aprqa.domain.model import Backend, Modality
from pytest_aprqa.domain.oracle_spec import ExactSpec, OneOfSpec, OracleSpec, RegexSpec
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.verdict import Ruling
from pytest_aprqa.engines.engine import EngineCrashed

if TYPE_CHECKING:
    from pytest_aprqa.domain.case import Case
    from pytest_aprqa.engines.engine import Engine


class CaseLab(Lab):
    """One scenario of one target, and the engine that is asked."""

    def __init__(self, case: Case, engine: Engine) -> None:
        super().__init__()
        self.case = case
        self.engine = engine


class OracleLab(Lab):
    """One answer to one question, and the oracle that judges it."""

    def __init__(self, spec: OracleSpec, question: str, answer: str) -> None:
        super().__init__()
        self.spec = spec
        self.question = question
        self.answer = answer


SCENARIOS: Family[CaseLab] = Family(
    "scenario", Place.SCENARIO, Cost.ANSWERS, Rung.TEXT, category=Category.QUAL
)
VERDICTS: Family[OracleLab] = Family(
    "oracle", Place.SCENARIO, Cost.EVIDENCE, Rung.TEXT, category=Category.QUAL
)
BLANKS: Family[OracleLab] = Family(
    "oracle/blank", Place.SCENARIO, Cost.EVIDENCE, Rung.TEXT, category=Category.QUAL
)
FAMILIES = (SCENARIOS, VERDICTS, BLANKS)

_ASSERTIONS = {
    "arithmetic": "the answer holds the value of the question's expression",
    "garbage": "the answer is text that somebody could have meant, without control characters",
    "code_syntax": "the answer holds code that a real parser of the language accepts",
    "exact": "the answer is the expected text",
    "contains": "the answer holds every expected text",
    "one_of": "the answer is one of the expected texts",
    "regex": "the pattern is found in the answer",
    "response": "the answer is about the question and keeps its stated form",
    "composite": "the oracles that are put together agree that the answer is right",
}


def finding_of(evidence: Evidence) -> Finding:
    """What a scenario's or a target gate's evidence says, as a finding.

    Raises:
        EngineCrashed: the engine broke.
    """
    measured = dict(evidence.measurements)
    match evidence.outcome:
        case Outcome.CORROBORATED:
            return held(evidence.reason, measured=measured)
        case Outcome.FALSIFIED:
            return refuted(evidence.reason, measured=measured)
        case Outcome.CRASHED:
            raise EngineCrashed(evidence.reason, evidence.diagnosis)
        case Outcome.SKIPPED:
            return without_meaning(evidence.reason)
        case _:
            return undecided(evidence.reason, measured=measured)


def _cell(modality: Modality, backend: Backend, lab: CaseLab) -> Finding:
    from pytest_aprqa.checks.scenario import try_case

    case = lab.case
    if gate_id(case.modality, case.target.backend) != gate_id(modality, backend):
        return without_meaning(f"{case.item_name} is of another cell")
    return finding_of(try_case(case, lab.engine, case.item_name))


for _modality in (Modality.RUN, Modality.CHAT, Modality.SERVE):
    for _backend in (Backend.CPU, Backend.GPU):
        SCENARIOS.gate(
            gate_id(_modality, _backend),
            f"asked by {_modality} on {_backend}, the model answers as the scenario's oracles say",
            applies=f"scenarios of {_modality} on {_backend}; an endpoint counts as cpu",
        )(partial(_cell, _modality, _backend))


def _verdict(oracle: str, lab: OracleLab) -> Finding:
    from pytest_aprqa.oracles import build_oracle

    if lab.spec.type != oracle:
        return without_meaning(f"the oracle is {lab.spec.type}")
    verdict = build_oracle(lab.spec).judge(lab.question, lab.answer)
    if verdict.ruling is Ruling.INAPPLICABLE:
        return without_meaning(verdict.reason)
    return held(verdict.reason) if verdict.corroborated else refuted(verdict.reason)


for _oracle, _id in ORACLES.items():
    VERDICTS.gate(_id, _ASSERTIONS[_oracle], applies=f"answers that the oracle {_oracle} judges")(
        partial(_verdict, _oracle)
    )


@BLANKS.gate(NOT_BLANK, "an answer is not empty, whatever judges it")
def not_blank(lab: OracleLab) -> Finding:
    """An empty answer is wrong, but where the scenario asks for nothing."""
    from pytest_aprqa.oracles import build_oracle

    if lab.answer.strip():
        return held(f"the answer has {len(lab.answer.strip())} characters")
    if _expects_nothing(lab.spec):
        return without_meaning("the scenario expects an empty answer")
    verdict = build_oracle(lab.spec).judge(lab.question, lab.answer)
    told = "which lets it pass" if verdict.corroborated else "which finds it wrong too"
    return refuted(f"the answer is empty; it is judged by {lab.spec.type}, {told}")


def _expects_nothing(spec: OracleSpec) -> bool:
    match spec:
        case ExactSpec():
            return not spec.expected.strip()
        case OneOfSpec():
            return any(not text.strip() for text in spec.expected)
        case RegexSpec():
            return re.search(spec.pattern, "") is not None
        case _:
            return False
