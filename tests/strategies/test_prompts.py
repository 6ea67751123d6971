from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_aprqa.domain.oracle_spec import (
    ArithmeticSpec,
    CodeSyntaxSpec,
    GarbageSpec,
    ResponseSpec,
)
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.strategies import prompts
from pytest_aprqa.strategies.prompts import (
    KIND_CYCLE,
    Question,
    arithmetic_prompts,
    chat_prompts,
    code_prompts,
    edge_prompts,
    generate_scenarios,
)

DIGEST = (
    "import hashlib; from pytest_aprqa.strategies.prompts import generate_scenarios; "
    "print(hashlib.sha256(repr(generate_scenarios(100, 3)).encode()).hexdigest())"
)


def test_first_scenarios_of_the_default_seed() -> None:
    assert [(s.name, s.prompt) for s in generate_scenarios(4)] == [
        ("arithmetic_gen_000", "Calculate 20 - 17."),
        ("code_gen_001", "Write Rust code to divide two numbers."),
        ("arithmetic_gen_002", "What's 20 - 0?"),
        ("chat_gen_003", "Tell me what SQL is."),
    ]


def test_same_in_every_process_whatever_is_imported() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", imports + DIGEST],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed, imports in [("0", ""), ("1", ""), ("77", "import hypothesis, json; ")]
    }
    assert len(digests) == 1


@given(shorter=st.integers(0, 150), longer=st.integers(0, 150), seed=st.integers())
@settings(deadline=None, max_examples=20)
def test_longer_run_begins_with_the_shorter(shorter: int, longer: int, seed: int) -> None:
    shorter, longer = sorted((shorter, longer))
    assert generate_scenarios(longer, seed)[:shorter] == generate_scenarios(shorter, seed)


@pytest.mark.parametrize("seed", [0, 1, -5, 2**70])
def test_no_prompt_and_no_name_twice(seed: int) -> None:
    scenarios = generate_scenarios(400, seed)
    assert len({s.prompt for s in scenarios}) == len({s.name for s in scenarios}) == 400


def test_seed_changes_the_prompts() -> None:
    assert generate_scenarios(10, 0) != generate_scenarios(10, 1)


def test_ten_hold_every_kind() -> None:
    kinds = [s.name.split("_")[0] for s in generate_scenarios(10)]
    assert tuple(kinds) == KIND_CYCLE
    assert kinds[0] == "arithmetic"
    assert set(kinds) == {"arithmetic", "code", "chat", "edge"}


def test_a_hundred_are_fast() -> None:
    started = time.perf_counter()
    generate_scenarios(100)
    assert time.perf_counter() - started < 1


def test_none_and_impossible_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert generate_scenarios(0) == ()
    with pytest.raises(ValueError, match=r"count -1: expected 0 or more"):
        generate_scenarios(-1)
    monkeypatch.setattr(prompts, "MAX_TRIES", 1)
    with pytest.raises(ValueError, match=r"different prompts could be generated; lower the count"):
        generate_scenarios(1000)


@given(arithmetic_prompts())
@settings(deadline=None)
def test_arithmetic_holds_its_answer(question: Question) -> None:
    spec = question.oracle_spec
    assert isinstance(spec, ArithmeticSpec)
    assert spec.expected is not None
    assert 0 <= spec.expected <= 100
    assert question.category is Category.QUAL
    words = {"plus": "+", "minus": "-", "times": "*"}
    kept = question.prompt
    for word, sign in words.items():
        kept = kept.replace(word, sign)
    expression = "".join(letter for letter in kept if letter in "0123456789+-*")
    assert eval(expression) == spec.expected


@given(code_prompts())
@settings(deadline=None)
def test_code_names_its_language(question: Question) -> None:
    assert isinstance(question.oracle_spec, CodeSyntaxSpec)
    assert question.oracle_spec.language is not None
    assert question.oracle_spec.language in question.prompt.lower()
    assert "{" not in question.prompt


@given(chat_prompts())
@settings(deadline=None)
def test_chat_is_judged(question: Question) -> None:
    assert isinstance(question.oracle_spec, ResponseSpec | GarbageSpec)
    assert question.prompt.isprintable()
    assert "{" not in question.prompt


@given(edge_prompts())
@settings(deadline=None)
def test_edge_is_encodable_and_says_it_is_edge(question: Question) -> None:
    assert isinstance(question.oracle_spec, GarbageSpec)
    assert question.category is Category.EDGE
    assert 0 < len(question.prompt) <= 700
    assert question.prompt.encode()


def test_only_edge_prompts_hold_unprintable_characters() -> None:
    for scenario in generate_scenarios(400):
        if scenario.category is not Category.EDGE:
            assert scenario.prompt.isprintable()
