"""The oracles as assertions, for any test."""

from __future__ import annotations

from typing import Any

from pytest_aprqa.domain.errors import AprqaError, Falsified
from pytest_aprqa.domain.oracle_spec import OracleSpec
from pytest_aprqa.domain.verdict import Verdict
from pytest_aprqa.oracles.factory import build_oracle, parse_oracle
from pytest_aprqa.oracles.text import quoted

SHOWN = 400
"""Characters of the question and of the answer that a failure shows; five lines of a terminal."""


def judge(oracle: str | OracleSpec, question: str, answer: str, **settings: Any) -> Verdict:
    """Return the verdict of an oracle, by name with its settings or by spec."""
    return build_oracle(parse_oracle(oracle, **settings)).judge(question, answer)


def assert_oracle(
    oracle: str | OracleSpec, *, question: str, answer: str, **settings: Any
) -> Verdict:
    """Return a corroborating verdict; raise Falsified for a wrong answer, else AprqaError."""
    __tracebackhide__ = True
    verdict = judge(oracle, question, answer, **settings)
    if verdict.corroborated:
        return verdict
    shown = f"question: {quoted(question, SHOWN)}\nanswer: {quoted(answer, SHOWN)}"
    if verdict.falsified:
        raise Falsified(f"{verdict.oracle}: {verdict.reason}\n{shown}", verdict=verdict)
    raise AprqaError(f"{verdict.oracle} cannot judge this question: {verdict.reason}\n{shown}")
