"""Whether the number that an answer claims is the value that its question asks for.

The rules, in this order:

1. The answer is read up to where it starts on another question.
2. Every equation it states must hold; a false one refutes the answer wherever it stands.
3. True equations of other values are steps and claim nothing; an expression claims nothing.
4. A number denied (`not 4`) refutes the answer when it is the value, else it claims nothing.
5. Alternatives (`4 or 5`, `4, 5`) that differ refute the answer.
6. The claim that counts is the last one after `answer`, `result`, `total`, or the number that
   opens the answer; failing those, the last one after `is`, `=`, `so`; failing those, the last
   number that the question does not name. After a word of retraction (`No`, `wait`, `actually`)
   the claim that follows counts instead; without one, two such answers that differ refute it.
7. That claim must be the value: exactly, within `tolerance`, or, when the value's decimals do not
   end, rounded to the decimals shown (cut, if an ellipsis follows).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from pytest_aprqa.domain.oracle_spec import ArithmeticSpec
from pytest_aprqa.domain.verdict import Verdict
from pytest_aprqa.oracles.arithmetic.claims import Claims, matches, shown_number
from pytest_aprqa.oracles.arithmetic.question import Question, read_question
from pytest_aprqa.oracles.arithmetic.statements import read_answer
from pytest_aprqa.oracles.text import quoted, readable
from pytest_aprqa.oracles.verdicts import corroborated, falsified, inapplicable

READ = 20_000
"""Characters of an answer read for numbers, head and tail; arithmetic answers are far shorter."""


@dataclass(frozen=True, slots=True)
class ArithmeticOracle:
    """Judges the number an answer claims against the value of the question's expression."""

    spec: ArithmeticSpec
    name: str = field(default="arithmetic", init=False)

    def judge(self, question: str, answer: str) -> Verdict:
        """Rule on the answer; inapplicable when the question's value cannot be known."""
        asked = read_question(question)
        problem = set_up_problem(self.spec, asked)
        if problem:
            return inapplicable(self.name, problem)
        expected = asked.value if self.spec.expected is None else _exact(self.spec.expected)
        assert expected is not None  # set_up_problem says so otherwise
        text = readable(answer, READ)
        wanted = f"expected {shown_number(expected)}"
        if not text.strip():
            return falsified(self.name, f"{wanted}, but the answer is empty")
        claims = Claims(read_answer(text, asked), asked, expected, self.spec.tolerance)
        ruling = claims.rule()
        shown = quoted(answer.strip())
        if ruling.right:
            return corroborated(self.name, f"{ruling.reason}, in {shown}")
        return falsified(self.name, f"{wanted}, {ruling.reason}, in {shown}")


def set_up_problem(spec: ArithmeticSpec, asked: Question) -> str | None:
    """Return why this question cannot be judged, and what to do; None when it can."""
    if spec.expected is None:
        if asked.value is None:
            return f"{asked.problem}; set `expected`, or ask for one expression"
        return None
    if spec.expected != spec.expected or abs(spec.expected) == float("inf"):
        return f"`expected` is {spec.expected}, no finite number; give a number"
    expected = _exact(spec.expected)
    if asked.value is not None and not matches(
        asked.value, expected, spec.tolerance, decimals=_decimals(spec.expected)
    ):
        return (
            f"`expected` is {shown_number(expected)} but the question's value is "
            f"{shown_number(asked.value)}; correct one of them"
        )
    return None


def why_inapplicable(spec: ArithmeticSpec, question: str) -> str | None:
    """Return why the oracle cannot judge answers to this question; None when it can."""
    return set_up_problem(spec, read_question(question))


def _exact(number: float) -> Fraction:
    return Fraction(repr(number))


def _decimals(number: float) -> int:
    text = repr(number)
    return 0 if "e" in text else len(text.partition(".")[2])
