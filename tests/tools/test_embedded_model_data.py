"""The generated training data of the embedded model: right, repeatable, and honest about gaps."""

from __future__ import annotations

import ast
import json
import random
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from embedded_model import (
    arithmetic,
    chat_bank,
    chat_tasks,
    code_bank,
    code_tasks,
    data,
    exam,
)
from embedded_model.sample import (
    END_OF_TEXT,
    TURN_END,
    TURN_START,
    Problem,
    Sample,
    as_chat,
)

SAMPLES_PER_KIND = 20_000
SUM = re.compile(r"(?<![\w.])(\d+) ?([+-]|plus|minus) ?(\d+)(?![\w.])")
OPERATORS = {"plus": "+", "minus": "-"}


def draw(kind: str, seed: int, count: int) -> list[Sample]:
    """Draw samples of one kind from a fresh generator."""
    rng = random.Random(seed)
    return [data.MAKERS[kind](rng) for _ in range(count)]


@pytest.fixture(scope="module")
def samples() -> dict[str, list[Sample]]:
    """Return many samples of every kind."""
    return {kind: draw(kind, 7, SAMPLES_PER_KIND) for kind in data.MAKERS}


@pytest.mark.parametrize("kind", sorted(data.MAKERS))
def test_a_seed_always_gives_the_same_samples(kind: str) -> None:
    assert draw(kind, 3, 300) == draw(kind, 3, 300)
    assert draw(kind, 3, 300) != draw(kind, 4, 300)


def test_held_out_problems_are_never_drawn(samples: dict[str, list[Sample]]) -> None:
    drawn = {p for group in samples.values() for sample in group for p in sample.problems}
    assert len(drawn) > 10_000
    assert not {problem for problem in drawn if arithmetic.is_held_out(problem)}


def test_held_out_problems_appear_in_no_prompt(samples: dict[str, list[Sample]]) -> None:
    for group in samples.values():
        for sample in group:
            for left, sign, right in SUM.findall(sample.prompt):
                problem = Problem(int(left), OPERATORS.get(sign, sign), int(right))
                assert not arithmetic.is_held_out(problem), sample.prompt


def test_the_held_out_problems_are_as_many_as_the_model_card_says() -> None:
    one_digit, two_digit = arithmetic.held_out_one_digit(), arithmetic.held_out_two_digit()
    assert len(one_digit) == 2 * arithmetic.HELD_OUT_ONE_DIGIT == 24
    assert all(max(p.left, p.right) <= 9 for p in one_digit)
    assert all(9 < max(p.left, p.right) <= 99 for p in two_digit)
    assert 0.09 < len(two_digit) / (2 * (10_000 - 100)) < 0.11


def test_held_out_phrasings_are_never_trained() -> None:
    trained = {*arithmetic.MAIN_PHRASINGS, *arithmetic.OTHER_PHRASINGS}
    for phrasings in (*arithmetic.OPERATOR_PHRASINGS.values(), arithmetic.TAKE_AWAY_STORIES):
        trained.update(phrasings)
    assert len(arithmetic.HELD_OUT_PHRASINGS) >= 8
    assert not trained.intersection(arithmetic.HELD_OUT_PHRASINGS)
    for program in code_bank.BANK:
        held_out = code_tasks.held_out_phrasings(program)
        assert not set(held_out).intersection(code_tasks.phrasings(program))


@pytest.mark.parametrize("kind", sorted(data.MAKERS))
def test_every_answer_says_something_and_then_stops(
    kind: str, samples: dict[str, list[Sample]]
) -> None:
    for sample in samples[kind]:
        stop = TURN_END if sample.prompt.startswith(TURN_START) else END_OF_TEXT
        assert sample.answer.endswith(stop)
        text = sample.answer.removesuffix(stop)
        assert text.strip()
        assert not {TURN_START, TURN_END, END_OF_TEXT} & set(re.findall(r"<\|\w+\|>", text))


def test_arithmetic_answers_are_right(samples: dict[str, list[Sample]]) -> None:
    for sample in samples["bare"] + samples["arithmetic"]:
        (problem,) = sample.problems
        written = int(sample.answer.split("<|")[0])
        expression = f"{problem.left}{problem.operator}{problem.right}"
        assert written == eval(expression)


def test_prompts_come_as_plain_text_and_as_chat(samples: dict[str, list[Sample]]) -> None:
    for kind in ("arithmetic", "text", "late text"):
        chats = sum(sample.prompt.startswith(TURN_START) for sample in samples[kind])
        assert 0.35 < chats / SAMPLES_PER_KIND < 0.65


@pytest.mark.parametrize(
    "program",
    [p for p in code_bank.BANK if p.language == "Python"],
    ids=lambda p: p.task.replace(" ", "-"),
)
def test_python_programs_parse(program: code_bank.Program) -> None:
    assert ast.parse(program.source).body


def test_the_first_line_of_a_program_names_one_program() -> None:
    sources: dict[str, str] = {}
    for program in code_bank.BANK:
        head, line_break, _ = program.source.partition("\n")
        if line_break:
            assert sources.setdefault(head, program.source) == program.source


def test_a_question_has_one_answer() -> None:
    answers: dict[str, str] = {}
    bank = (*chat_bank.FACT_BANK, *chat_bank.GREETING_BANK, *chat_bank.LIST_BANK)
    known = [(fact.prompt, fact.answer) for fact in bank]
    known += [
        (ask, code_tasks.fenced(p)) for p in code_bank.BANK for ask in code_tasks.phrasings(p)
    ]
    for prompt, answer in known:
        assert answers.setdefault(prompt, answer) == answer, prompt
    unknown = {*chat_bank.UNKNOWN_QUESTIONS, *chat_bank.ODD_TEXTS}
    assert not unknown & answers.keys()


def test_json_replies_are_json() -> None:
    rng = random.Random(1)
    for _ in range(300):
        assert json.loads(chat_tasks.json_reply(rng).answer)


def test_unknown_questions_get_the_fallback_sentence() -> None:
    rng = random.Random(1)
    known = {fact.prompt for fact in chat_bank.FACT_BANK}
    for _ in range(2_000):
        exchange = chat_tasks.unknown(rng)
        assert exchange.answer == chat_bank.FALLBACK
        assert exchange.prompt not in known


def test_held_out_names_are_never_trained(samples: dict[str, list[Sample]]) -> None:
    texts = samples["text"] + samples["late text"]
    text = "".join(sample.prompt + sample.answer for sample in texts)
    words = set(re.findall(r"[A-Z][a-z]+", text))
    assert not words & set(chat_tasks.HELD_OUT_NAMES)


def test_a_chat_sample_is_written_as_chatml() -> None:
    rng = random.Random(0)
    told = chat_tasks.introduction(rng, "Ada")
    asked = chat_tasks.name_question(rng, "Ada")
    sample = as_chat(asked, (told,), system="Answer briefly.")
    assert sample.prompt == (
        "<|im_start|>system\nAnswer briefly.<|im_end|>\n"
        f"<|im_start|>user\n{told.prompt}<|im_end|>\n"
        "<|im_start|>assistant\nNice to meet you, Ada!<|im_end|>\n"
        f"<|im_start|>user\n{asked.prompt}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert sample.answer == "Your name is Ada.<|im_end|>"


def test_the_exam_asks_every_held_out_pair() -> None:
    groups = exam.arithmetic_exam()
    asked = {p for question in groups["one-digit + -, held-out pairs, trained phrasings"]
             for p in question.sample.problems}  # fmt: skip
    assert asked == arithmetic.held_out_one_digit()
    asked = {p for question in groups["two-digit + -, held-out pairs, trained phrasings"]
             for p in question.sample.problems}  # fmt: skip
    assert asked == arithmetic.held_out_two_digit()
