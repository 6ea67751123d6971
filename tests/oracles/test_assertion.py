from __future__ import annotations

import re
import subprocess
import sys
import time
from typing import Any

import pytest

from pytest_aprqa.domain.errors import AprqaError, Falsified
from pytest_aprqa.domain.oracle_spec import ArithmeticSpec, CompositeSpec, GarbageSpec, OracleSpec
from pytest_aprqa.domain.verdict import Ruling
from pytest_aprqa.oracles import (
    applicable,
    assert_oracle,
    build_oracle,
    judge,
    parse_oracle,
    why_inapplicable,
)


def test_a_right_answer_returns_the_verdict() -> None:
    verdict = assert_oracle("arithmetic", question="What is 2+2?", answer="2 + 2 = 4")
    assert verdict.ruling is Ruling.CORROBORATED
    assert verdict.reason == 'found 4, in "2 + 2 = 4"'


def test_a_wrong_answer_raises_falsified_and_shows_everything() -> None:
    with pytest.raises(Falsified) as caught:
        assert_oracle("arithmetic", question="What is 2+2?", answer="It is\x07 5.\n")
    assert str(caught.value) == (
        'arithmetic: expected 4, found 5, in "It is\\x07 5."\n'
        'question: "What is 2+2?"\n'
        'answer: "It is\\x07 5.\\n"'
    )
    assert caught.value.verdict is not None
    assert caught.value.verdict.falsified


def test_a_question_that_cannot_be_judged_is_a_set_up_error() -> None:
    with pytest.raises(AprqaError) as caught:
        assert_oracle("arithmetic", question="How are you?", answer="4")
    assert str(caught.value) == (
        'arithmetic cannot judge this question: "How are you?" holds no expression; '
        "set `expected`, or ask for one expression\n"
        'question: "How are you?"\n'
        'answer: "4"'
    )


def test_a_long_answer_is_cut_in_the_message() -> None:
    with pytest.raises(Falsified) as caught:
        assert_oracle("exact", question="Well?", answer="ab" * 5_000, expected="x")
    message = str(caught.value)
    assert len(message) < 700
    assert "more]" in message


def test_the_helper_hides_its_own_frame() -> None:
    with pytest.raises(Falsified) as caught:
        assert_oracle("exact", question="Well?", answer="y", expected="x")
    frames = [entry for entry in caught.traceback if "__tracebackhide__" in entry.locals]
    assert len(frames) == 1
    assert frames[0].locals["__tracebackhide__"] is True


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("arithmatic", {}, "unknown oracle 'arithmatic': did you mean 'arithmetic'?"),
        (
            "zzz",
            {},
            "unknown oracle 'zzz': expected one of arithmetic, garbage, code_syntax, response, "
            "exact, regex, contains, one_of, composite",
        ),
        ("exact", {}, "exact: expected: Field required"),
        ("garbage", {"ratio": 1}, "garbage: ratio: Extra inputs are not permitted"),
        (
            "one_of",
            {"expected": []},
            "one_of: expected: Tuple should have at least 1 item after validation, not 0",
        ),
        (
            "composite",
            {},
            "composite: `all`, `any` and `none` are empty, so nothing is judged; "
            "name at least one oracle",
        ),
    ],
)
def test_a_mistake_in_the_set_up_is_one_line(
    name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(AprqaError) as caught:
        assert_oracle(name, question="2+2", answer="4", **settings)
    assert str(caught.value) == message


def test_a_spec_takes_no_settings_beside_it() -> None:
    with pytest.raises(AprqaError, match=r"^garbage: a spec takes no settings beside it \(min\)$"):
        judge(GarbageSpec(), "x", "y", min=1)


def test_an_empty_list_is_an_error() -> None:
    with pytest.raises(AprqaError, match=r"^`oracles` is empty, so nothing is judged; "):
        applicable([])


def test_a_nested_empty_composite_is_an_error() -> None:
    with pytest.raises(AprqaError, match=r"^composite: `all`, `any` and `none` are empty"):
        build_oracle(CompositeSpec(all=(CompositeSpec(),)))
    reason = why_inapplicable(CompositeSpec(all=(CompositeSpec(),)), "x")
    assert reason is not None
    assert reason.startswith("all: composite: composite: `all`, `any` and `none` are empty")


@pytest.mark.parametrize(
    ("spec", "question", "problem"),
    [
        (ArithmeticSpec(), "What is 2+2?", None),
        (ArithmeticSpec(expected=4), "How are you?", None),
        (ArithmeticSpec(expected=4), "What is 2+2?", None),
        (ArithmeticSpec(expected=3.33), "What is 10/3?", None),
        (
            ArithmeticSpec(expected=5),
            "What is 2+2?",
            "`expected` is 5 but the question's value is 4; correct one of them",
        ),
        (
            ArithmeticSpec(expected=float("nan")),
            "x",
            "`expected` is nan, no finite number; give a number",
        ),
        (
            ArithmeticSpec(),
            "What is 1/0?",
            '"What is 1/0?" cannot be evaluated: it divides by zero; '
            "set `expected`, or ask for one expression",
        ),
        (GarbageSpec(), "", None),
        (
            parse_oracle("regex", pattern="("),
            "x",
            '`pattern` "(" is no regular expression: missing ), '
            "unterminated subpattern at position 0; correct it",
        ),
        (
            parse_oracle("regex", pattern="a*"),
            "x",
            '`pattern` "a*" matches an empty answer, so it '
            "refutes nothing; make it ask for something",
        ),
        (
            parse_oracle("contains", expected=[]),
            "x",
            "`expected` is empty, and every answer holds an empty text; name a text",
        ),
        (parse_oracle("composite", any=[{"type": "arithmetic"}, {"type": "garbage"}]), "x", None),
        (
            parse_oracle("composite", none=[{"type": "arithmetic"}]),
            "x",
            'none: arithmetic: "x" holds no expression; set `expected`, or ask for one expression',
        ),
    ],
)
def test_why_inapplicable_says_what_to_do(
    spec: OracleSpec, question: str, problem: str | None
) -> None:
    assert why_inapplicable(spec, question) == problem


# (oracle, settings, question, answer, reason)
# fmt: off
REASONS: tuple[tuple[str, dict[str, Any], str, str, str], ...] = (
    ("arithmetic", {}, "What is 2+2?", "", "expected 4, but the answer is empty"),
    ("arithmetic", {}, "What is 2+2?", "2+2=5", 'expected 4, but it says 2 + 2 = 5, in "2+2=5"'),
    ("arithmetic", {}, "What is 2+2?", "not 4", 'expected 4, but it denies it (not 4), in "not 4"'),
    (
        "arithmetic",
        {},
        "What is 2+2?",
        "4 or 5",
        'expected 4, but it leaves several numbers to choose from (4, 5), in "4 or 5"',
    ),
    (
        "arithmetic",
        {},
        "What is 2+2?",
        "Answer: 5. Answer: 4.",
        'expected 4, but it contradicts itself (5, then 4), in "Answer: 5. Answer: 4."',
    ),
    (
        "arithmetic",
        {},
        "What is 2+2?",
        "2+2",
        'expected 4, but no number is claimed for it, in "2+2"',
    ),
    ("garbage", {}, "x", "", "it is empty"),
    ("garbage", {}, "x", " ", 'it is blank: " "'),
    ("garbage", {}, "x", "a\x1b", 'control character U+001B in "a\\x1b"'),
    ("garbage", {}, "x", "a\ufffd", 'replacement character U+FFFD in "a\ufffd"'),
    ("garbage", {}, "x", "a <unk>", 'special token "<unk>" in "a <unk>"'),
    ("garbage", {}, "x", "nan nan nan", "3 of its 3 words are NaN or Inf"),
    ("garbage", {}, "x", "!!!!!!!", 'it is one character 7 times: "!!!!!!!"'),
    ("garbage", {}, "x", "the " * 10, 'it ends in a loop: "the" 9 times (90% of it)'),
    ("code_syntax", {"language": "python"}, "x", "yes", 'it holds no python construct: "yes"'),
    (
        "code_syntax",
        {"language": "rust"},
        "x",
        "```go\nx\n```",
        "expected rust code, but its fences are go",
    ),
    (
        "code_syntax",
        {"language": "python"},
        "x",
        "```python\ndef f(:\n    pass\n```",
        'python rejects it: invalid syntax (line 1): "def f(:\\n    pass"',
    ),
    (
        "code_syntax",
        {"language": "python"},
        "x",
        "",
        "expected python code, but the answer is empty",
    ),
    ("response", {"items": 3}, "x", "a, b", 'expected 3 items, found 2: "a, b"'),
    ("response", {"sentences": 1}, "x", "A b. C d.", 'expected 1 sentence, found 2: "A b. C d."'),
    ("response", {"keywords": ["tea"]}, "x", "milk", 'none of the keywords tea appears: "milk"'),
    (
        "response",
        {"json_schema": {"type": "array"}},
        "x",
        "{}",
        'the JSON does not fit the schema: $: "{} is not of type \'array\'": "{}"',
    ),
    ("exact", {"expected": "a"}, "x", "b", 'expected "a", found "b"'),
    ("contains", {"expected": "a"}, "x", "b", '"a" not in "b"'),
    ("one_of", {"expected": ["a", "b"]}, "x", "c", 'expected one of "a", "b", found "c"'),
    ("regex", {"pattern": "a"}, "x", "b", 'pattern "a" is not found in "b"'),
    (
        "composite",
        {"all": [{"type": "exact", "expected": "a"}]},
        "x",
        "b",
        'exact: expected "a", found "b"',
    ),
    (
        "composite",
        {"none": [{"type": "exact", "expected": "b"}]},
        "x",
        "b",
        'one of `none` holds: exact: it is "b"',
    ),
)


@pytest.mark.parametrize(("name", "settings", "question", "answer", "reason"), REASONS)
def test_a_reason_shows_what_was_judged(
    name: str, settings: dict[str, Any], question: str, answer: str, reason: str
) -> None:
    verdict = judge(name, question, answer, **settings)
    assert verdict.reason == reason
    assert verdict.falsified
    assert verdict.oracle == name


def test_a_pattern_that_takes_for_ever_is_stopped() -> None:
    start = time.perf_counter()
    verdict = judge("regex", "x", "a" * 40 + "!", pattern=r"(a+)+$")
    assert time.perf_counter() - start < 10
    assert verdict.ruling is Ruling.INAPPLICABLE
    assert re.search(r"took over 2 s on .*; simplify it$", verdict.reason)


def test_code_is_parsed_without_warnings_and_never_run() -> None:
    answer = 'import sys\nif 1 is 1:\n    sys.exit("run")\nx = "\\d"'
    assert judge("code_syntax", "x", answer, language="python").corroborated


def test_importing_the_package_imports_no_parser() -> None:
    code = (
        "import sys, pytest_aprqa.oracles\n"
        "heavy = {'tree_sitter', 'jsonschema', 'ftfy', 'pydantic'} & set(sys.modules)\n"
        "from pytest_aprqa.oracles import judge, why_inapplicable\n"
        "judge('arithmetic', '2+2', '4')\n"
        "heavy |= {'tree_sitter', 'jsonschema', 'ftfy', 'pytest', 'torch'} & set(sys.modules)\n"
        "print(sorted(heavy))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
