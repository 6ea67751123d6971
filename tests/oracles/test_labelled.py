from __future__ import annotations

from typing import Any

import pytest

from pytest_aprqa.domain.verdict import Ruling
from pytest_aprqa.oracles import applicable, judge, parse_oracle, why_inapplicable
from tests.oracles.arithmetic_cases import BLIND as ARITHMETIC_BLIND
from tests.oracles.arithmetic_cases import BLIND_2 as ARITHMETIC_BLIND_2
from tests.oracles.arithmetic_cases import CASES as ARITHMETIC
from tests.oracles.arithmetic_cases import SET_UP
from tests.oracles.code_cases import APPLICABLE as CODE_APPLICABLE
from tests.oracles.code_cases import BLIND as CODE_BLIND
from tests.oracles.code_cases import CASES as CODE
from tests.oracles.code_cases import NOT_APPLICABLE as CODE_NOT_APPLICABLE
from tests.oracles.composite_cases import APPLICABLE, CASES
from tests.oracles.garbage_cases import BLIND as GARBAGE_BLIND
from tests.oracles.garbage_cases import BLIND_2 as GARBAGE_BLIND_2
from tests.oracles.garbage_cases import CASES as GARBAGE
from tests.oracles.garbage_cases import MISSED
from tests.oracles.garbage_cases import SOUP as GARBAGE_SOUP
from tests.oracles.literal_cases import CONTAINS, EXACT, ONE_OF, REGEX
from tests.oracles.response_cases import BLIND_2 as RESPONSE_BLIND
from tests.oracles.response_cases import CASES as RESPONSE
from tests.oracles.response_cases import NOT_APPLICABLE as RESPONSE_NOT_APPLICABLE

ARITHMETIC_ALL = ARITHMETIC + ARITHMETIC_BLIND + ARITHMETIC_BLIND_2
GARBAGE_ALL = GARBAGE + GARBAGE_BLIND + GARBAGE_BLIND_2 + GARBAGE_SOUP
RESPONSE_ALL = RESPONSE + RESPONSE_BLIND


def ruling(right: bool) -> Ruling:
    return Ruling.CORROBORATED if right else Ruling.FALSIFIED


@pytest.mark.parametrize(("question", "answer", "right", "why"), ARITHMETIC_ALL)
def test_arithmetic(question: str, answer: str, right: bool, why: str) -> None:
    verdict = judge("arithmetic", question, answer)
    assert verdict.ruling is ruling(right), f"{why}: {verdict.reason}"


@pytest.mark.parametrize(("question", "problem"), SET_UP)
def test_arithmetic_refuses_what_is_not_one_expression(question: str, problem: str) -> None:
    reason = why_inapplicable(parse_oracle("arithmetic"), question)
    assert reason is not None
    assert problem in reason
    assert reason.endswith("; set `expected`, or ask for one expression")
    assert judge("arithmetic", question, "4").ruling is Ruling.INAPPLICABLE


@pytest.mark.parametrize(("answer", "right", "why"), GARBAGE_ALL)
def test_garbage(answer: str, right: bool, why: str) -> None:
    verdict = judge("garbage", "Tell me.", answer)
    assert verdict.ruling is ruling(right), f"{why}: {verdict.reason}"


@pytest.mark.xfail(strict=True, reason="no rule finds it; see MISSED")
@pytest.mark.parametrize("answer", MISSED)
def test_garbage_that_is_missed(answer: str) -> None:
    assert judge("garbage", "Tell me.", answer).falsified


@pytest.mark.parametrize(("language", "question", "answer", "right", "why"), CODE + CODE_BLIND)
def test_code_syntax(
    language: str | None, question: str, answer: str, right: bool, why: str
) -> None:
    verdict = judge("code_syntax", question, answer, language=language)
    assert verdict.ruling is ruling(right), f"{why}: {verdict.reason}"


@pytest.mark.parametrize("question", CODE_NOT_APPLICABLE)
def test_code_syntax_is_not_for_other_questions(question: str) -> None:
    reason = why_inapplicable(parse_oracle("code_syntax"), question)
    assert reason is not None
    assert reason.endswith(" is not code and asks for none; set `language`, or ask for code")
    assert why_inapplicable(parse_oracle("code_syntax", language="go"), question) is None


@pytest.mark.parametrize("question", CODE_APPLICABLE)
def test_code_syntax_knows_a_question_for_code(question: str) -> None:
    assert why_inapplicable(parse_oracle("code_syntax"), question) is None


@pytest.mark.parametrize(("settings", "question", "answer", "right", "why"), RESPONSE_ALL)
def test_response(
    settings: dict[str, Any], question: str, answer: str, right: bool, why: str
) -> None:
    verdict = judge("response", question, answer, **settings)
    assert verdict.ruling is ruling(right), f"{why}: {verdict.reason}"


@pytest.mark.parametrize(("settings", "question"), RESPONSE_NOT_APPLICABLE)
def test_response_needs_something_to_check(settings: dict[str, Any], question: str) -> None:
    assert why_inapplicable(parse_oracle("response", **settings), question) is not None
    assert judge("response", question, "yes", **settings).ruling is Ruling.INAPPLICABLE


@pytest.mark.parametrize(
    ("oracle", "settings", "answer", "right"),
    [
        (name, *row)
        for name, rows in (
            ("exact", EXACT),
            ("contains", CONTAINS),
            ("one_of", ONE_OF),
            ("regex", REGEX),
        )
        for row in rows
    ],
)
def test_literal(oracle: str, settings: dict[str, Any], answer: str, right: bool) -> None:
    verdict = judge(oracle, "Well?", answer, **settings)
    assert verdict.ruling is ruling(right), verdict.reason


@pytest.mark.parametrize(("settings", "question", "answer", "expected", "why"), CASES)
def test_composite(
    settings: dict[str, Any], question: str, answer: str, expected: str, why: str
) -> None:
    verdict = judge("composite", question, answer, **settings)
    assert verdict.ruling == expected, f"{why}: {verdict.reason}"


@pytest.mark.parametrize(("members", "question", "answer", "expected", "why"), APPLICABLE)
def test_applicable(
    members: list[dict[str, Any]], question: str, answer: str, expected: str, why: str
) -> None:
    specs = [
        parse_oracle(member["type"], **{key: member[key] for key in member if key != "type"})
        for member in members
    ]
    verdict = applicable(specs).judge(question, answer)
    assert verdict.ruling == expected, f"{why}: {verdict.reason}"


def test_every_table_has_forty_cases_with_both_rulings() -> None:
    tables: dict[str, list[bool]] = {
        "arithmetic": [case[2] for case in ARITHMETIC_ALL],
        "garbage": [case[1] for case in GARBAGE_ALL],
        "code_syntax": [case[3] for case in CODE + CODE_BLIND],
        "response": [case[3] for case in RESPONSE_ALL],
        "exact": [case[2] for case in EXACT],
        "contains": [case[2] for case in CONTAINS],
        "one_of": [case[2] for case in ONE_OF],
        "regex": [case[2] for case in REGEX],
        "composite": [case[3] == "corroborated" for case in CASES],
    }
    for name, rulings in tables.items():
        assert len(rulings) >= 40, f"{name}: {len(rulings)} cases"
        assert 0.3 <= sum(rulings) / len(rulings) <= 0.7, f"{name}: {sum(rulings)} are right"
