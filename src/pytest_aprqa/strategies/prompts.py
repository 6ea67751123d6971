"""Prompts for scenarios that no playbook lists, each with the oracle that judges its answer.

Every prompt is drawn by a function of a `random.Random`. Hypothesis strategies wrap these for
property tests. Scenarios of a run draw from a generator of their own, because Hypothesis mixes
constants of whatever local modules are imported into what it draws, even under `derandomize`:
the workers of one run could then disagree on what to collect.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_aprqa.domain.oracle_spec import (
    ArithmeticSpec,
    CodeSyntaxSpec,
    GarbageSpec,
    ResponseSpec,
)
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.strategies import wording

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

    from pytest_aprqa.domain.oracle_spec import OracleSpec

KIND_CYCLE = (
    "arithmetic", "code", "arithmetic", "chat", "arithmetic",
    "edge", "arithmetic", "code", "arithmetic", "chat",
)  # fmt: skip
"""The kinds of ten scenarios in a row: half arithmetic, one at the edge."""
SMALL = 20
"""Largest number in most sums and differences."""
LARGER = 50
"""Largest number in the others."""
FACTOR = 10
"""Largest factor in a product."""
MAX_TRIES = 200
"""Draws of one kind without a new prompt, after which arithmetic takes its place."""


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and what judges the answer to it."""

    prompt: str
    oracle_spec: OracleSpec
    category: Category = Category.QUAL


@dataclass(frozen=True, slots=True)
class GeneratedScenario:
    """A scenario that is drawn, not listed; its name says its kind and its place in the run."""

    name: str
    prompt: str
    oracle_spec: OracleSpec
    category: Category


def generate_scenarios(count: int, seed: int = 0) -> tuple[GeneratedScenario, ...]:
    """The first `count` scenarios of a seed: the same in every process, no prompt twice.

    A longer run begins with the scenarios of a shorter one.

    Raises:
        ValueError: `count` is negative, or more than there are different prompts.
    """
    if count < 0:
        raise ValueError(f"count {count}: expected 0 or more")
    scenarios: list[GeneratedScenario] = []
    prompts: set[str] = set()
    for index in range(count):
        kind, question = _new_question(index, seed=seed, known=prompts)
        prompts.add(question.prompt)
        scenarios.append(
            GeneratedScenario(
                name=f"{kind}_gen_{index:03d}",
                prompt=question.prompt,
                oracle_spec=question.oracle_spec,
                category=question.category,
            )
        )
    return tuple(scenarios)


def _new_question(index: int, *, seed: int, known: set[str]) -> tuple[str, Question]:
    for kind in (KIND_CYCLE[index % len(KIND_CYCLE)], "arithmetic"):
        # A string seeds by its SHA-512: the same everywhere, and the scenarios are independent.
        rng = random.Random(f"{seed}:{index}:{kind}")
        for _ in range(MAX_TRIES):
            question = DRAW[kind](rng)
            if question.prompt not in known:
                return kind, question
    raise ValueError(f"only {index} different prompts could be generated; lower the count")


def arithmetic_question(rng: random.Random) -> Question:
    """A sum, a difference that is not negative, or a product, of small numbers."""
    shape = rng.random()
    operator = "*" if shape >= 0.9 else rng.choice("+-")
    limit = FACTOR if operator == "*" else LARGER if shape >= 0.7 else SMALL
    a, b = rng.randint(0, limit), rng.randint(0, limit)
    if operator == "-" and a < b:
        a, b = b, a
    prompt = rng.choice(wording.ARITHMETIC).format(
        a=a, b=b, o=operator, w=wording.OPERATOR_WORDS[operator]
    )
    return Question(prompt, ArithmeticSpec(expected={"+": a + b, "-": a - b, "*": a * b}[operator]))


def code_question(rng: random.Random) -> Question:
    """A request for a short function in Python, JavaScript or Rust, or for a SQL query."""
    name = rng.choice((*wording.CODE_LANGUAGES, "SQL"))
    if name == "SQL":
        table, column = rng.choice(wording.SQL_TABLES)
        task = rng.choice(wording.SQL_TASKS).format(table=table, column=column)
        return Question(rng.choice(wording.SQL).format(task=task), CodeSyntaxSpec(language="sql"))
    prompt = rng.choice(wording.CODE).format(language=name, task=rng.choice(wording.CODE_TASKS))
    return Question(prompt, CodeSyntaxSpec(language=wording.CODE_LANGUAGES[name]))


def chat_question(rng: random.Random) -> Question:
    """A capital, which the answer must name; a definition or small talk, not to be garbage."""
    kind = rng.random()
    if kind < 0.45:
        country = rng.choice(tuple(wording.CAPITALS))
        prompt = rng.choice(wording.CAPITAL_QUESTIONS).format(country=country)
        return Question(prompt, ResponseSpec(keywords=(wording.CAPITALS[country],)))
    if kind < 0.9:
        thing = rng.choice(wording.DEFINABLE)
        return Question(rng.choice(wording.DEFINITION_QUESTIONS).format(thing=thing), GarbageSpec())
    return Question(rng.choice(wording.SMALL_TALK), GarbageSpec())


def edge_question(rng: random.Random) -> Question:
    """A prompt at the edge: another script, emoji, markup, a long text, next to nothing.

    Printable but for white space, and never empty.
    """
    draw: Callable[[random.Random], str] = rng.choice((_foreign, _emoji, _markup, _long, _blank))
    return Question(draw(rng), GarbageSpec(), Category.EDGE)


def _foreign(rng: random.Random) -> str:
    return " ".join(rng.sample(wording.FOREIGN, rng.randint(1, 2)))


def _emoji(rng: random.Random) -> str:
    return "".join(rng.choices(wording.EMOJI, k=rng.randint(1, 5)))


def _markup(rng: random.Random) -> str:
    return rng.choice(("", "Explain this: ", "What is this? ")) + rng.choice(wording.MARKUP)


def _long(rng: random.Random) -> str:
    sentences = rng.sample(wording.SENTENCES, rng.randint(8, len(wording.SENTENCES)))
    return f"{' '.join(sentences)} {rng.choice(wording.LONG_QUESTIONS)}"


def _blank(rng: random.Random) -> str:
    return rng.choice(wording.BLANKS)


DRAW: dict[str, Callable[[random.Random], Question]] = {
    "arithmetic": arithmetic_question,
    "code": code_question,
    "chat": chat_question,
    "edge": edge_question,
}
"""What draws a question of each kind."""


def arithmetic_prompts() -> SearchStrategy[Question]:
    """Sums, differences and products of small numbers, in many phrasings."""
    return _strategy(arithmetic_question)


def code_prompts() -> SearchStrategy[Question]:
    """Requests for short programs in languages with a parser."""
    return _strategy(code_question)


def chat_prompts() -> SearchStrategy[Question]:
    """Short factual questions and small talk."""
    return _strategy(chat_question)


def edge_prompts() -> SearchStrategy[Question]:
    """Prompts at the edge; any answer that is not garbage will do."""
    return _strategy(edge_question)


def _strategy(draw: Callable[[random.Random], Question]) -> SearchStrategy[Question]:
    from hypothesis import strategies as st

    return st.builds(draw, st.randoms(use_true_random=False))
