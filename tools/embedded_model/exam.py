"""The questions of the evaluation: held-out pairs and phrasings, code, chat and the unknown."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from embedded_model import arithmetic, chat_bank, chat_tasks, code_tasks
from embedded_model.code_bank import BANK
from embedded_model.sample import END_OF_TEXT, Exchange, Problem, Sample, as_chat, as_raw

EXAM_SEED = "exam"
TRAINED_PHRASINGS = arithmetic.MAIN_PHRASINGS + arithmetic.OTHER_PHRASINGS
WORD_PHRASINGS = tuple(phrasing for phrasing in TRAINED_PHRASINGS if "{w}" in phrasing)
PLAYBOOK: tuple[tuple[str, str], ...] = (
    ("What is 2 + 2?", "4"),
    ("What is 2+2?", "4"),
    ("Calculate 7*8", "56"),
    ("What is 15-7?", "8"),
    ("Calculate 9 - 4.", "5"),
    ("What is 3 plus 5?", "8"),
    ("2+2=", "4"),
    ("Add 6 and 7.", "13"),
    ("If I have 5 apples and eat 2, how many are left?", "3"),
    ("Hello, how are you?", chat_bank.FINE),
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the capital of Brazil?", "The capital of Brazil is Brasilia."),
    ("List three colors.", "1. Red\n2. Green\n3. Blue"),
    ("Name three animals.", "1. Cat\n2. Dog\n3. Horse"),
    ("Explain what a variable is in one sentence.", chat_bank.DEFINITIONS["a variable"]),
    ("Return a JSON object with name and age.", '{"name": "Ada", "age": 36}'),
    ("What is Python?", chat_bank.DEFINITIONS["Python"]),
    ("Say hello in three languages.", "1. Hello\n2. Hola\n3. Bonjour"),
    ("Who are you?", chat_bank.WHO),
    ("Write a haiku.", chat_bank.HAIKU),
)
PLAYBOOK_CODE = (
    ("Write a Python function to reverse a string", "Python", "reverse a string"),
    (
        "Write a Python function that checks if a number is prime.",
        "Python",
        "check if a number is prime",
    ),
    ("Write a JavaScript function to add two numbers.", "JavaScript", "add two numbers"),
    ("Write a SQL query to select all users.", "SQL", "select all users"),
)  # fmt: skip
PLAYBOOK_STARTS = (
    ("def fibonacci(n):", "Python", "compute the nth Fibonacci number"),
    ("function add(a, b) {", "JavaScript", "add two numbers"),
    ("fn main() {", "Rust", "print hello world"),
)


@dataclass(frozen=True)
class Question:
    """A prompt with the answer expected, and the user's text before it was formatted."""

    sample: Sample
    text: str
    chat: bool


def both_formats(exchanges: Iterable[Exchange]) -> list[Question]:
    """Ask every exchange twice: as plain text and as chat."""
    questions = []
    for exchange in exchanges:
        questions.append(Question(as_raw(exchange), exchange.prompt, chat=False))
        questions.append(Question(as_chat(exchange), exchange.prompt, chat=True))
    return questions


def _ask_all(
    problems: Iterable[Problem], phrasings: tuple[str, ...], word_share: float = 0.0
) -> list[Question]:
    rng = random.Random(EXAM_SEED)
    return both_formats(
        arithmetic.ask(rng, p, text, word_share) for p in problems for text in phrasings
    )


def _ask_one(problems: Iterable[Problem], phrasings: tuple[str, ...]) -> list[Question]:
    rng = random.Random(EXAM_SEED)
    return both_formats(
        arithmetic.ask(rng, p, rng.choice(phrasings), word_share=0.0) for p in problems
    )


def _told_as_stories(problems: Iterable[Problem]) -> list[Question]:
    rng = random.Random(EXAM_SEED)
    exchanges = []
    for problem in problems:
        stories = arithmetic.OPERATOR_PHRASINGS[problem.operator]
        if problem.operator == "-" and arithmetic.result(problem) >= 0:
            stories += arithmetic.TAKE_AWAY_STORIES
        exchanges += [arithmetic.ask(rng, problem, story) for story in stories]
    return both_formats(exchanges)


def _sums(limit: int) -> list[Problem]:
    numbers = range(limit + 1)
    return [Problem(a, o, b) for o in "+-" for a in numbers for b in numbers]


def arithmetic_exam() -> dict[str, list[Question]]:
    """Ask sums, differences, products and quotients."""
    one_digit = sorted(arithmetic.held_out_one_digit(), key=str)
    two_digit = sorted(arithmetic.held_out_two_digit(), key=str)
    products = [Problem(a, "*", b) for a in range(13) for b in range(13)]
    quotients = [Problem(a * b, "/", b) for a in range(13) for b in range(1, 13)]
    main, held_out = arithmetic.MAIN_PHRASINGS, arithmetic.HELD_OUT_PHRASINGS
    to_twenty = [p for p in _sums(20) if 0 <= arithmetic.result(p) <= 20]
    return {
        "one-digit + -, all pairs, common phrasings": _ask_all(_sums(9), main),
        "one-digit + -, held-out pairs, trained phrasings": _ask_all(one_digit, TRAINED_PHRASINGS),
        "one-digit + -, all pairs, held-out phrasings": _ask_all(_sums(9), held_out),
        "one-digit + -, held-out pairs, held-out phrasings": _ask_all(one_digit, held_out),
        "one-digit + -, all pairs, stories and operator phrasings": _told_as_stories(_sums(9)),
        "one-digit + -, all pairs, in number words": _ask_all(_sums(9), WORD_PHRASINGS, 1.0),
        "one-digit + -, held-out pairs, in number words": _ask_all(one_digit, WORD_PHRASINGS, 1.0),
        "operands and results up to 20, trained phrasings": _ask_one(to_twenty, TRAINED_PHRASINGS),
        "two-digit + -, held-out pairs, trained phrasings": _ask_one(two_digit, TRAINED_PHRASINGS),
        "two-digit + -, held-out pairs, held-out phrasings": _ask_one(two_digit, held_out),
        "products up to 12 x 12, common phrasings": _ask_one(products, main),
        "products up to 12 x 12, held-out phrasings": _ask_one(products, held_out),
        "quotients up to 144 / 12, common phrasings": _ask_one(quotients, main),
    }


def code_exam() -> dict[str, list[Question]]:
    """Ask for every program of the bank, and start every program."""
    rng = random.Random(EXAM_SEED)
    trained = [Exchange(rng.choice(code_tasks.phrasings(p)), code_tasks.fenced(p)) for p in BANK]
    new = [
        Exchange(rng.choice(code_tasks.held_out_phrasings(p)), code_tasks.fenced(p)) for p in BANK
    ]
    starts = []
    for program in BANK:
        head, line_break, rest = program.source.partition("\n")
        if line_break:
            sample = Sample(head, f"\n{rest}\n{END_OF_TEXT}")
            starts.append(Question(sample, head, chat=False))
    return {
        "code, trained phrasings": both_formats(trained),
        "code, held-out phrasings": both_formats(new),
        "code, continued from the first line": starts,
    }


def chat_exam() -> dict[str, list[Question]]:
    """Ask facts and lists, recall held-out names, and ask what nobody knows."""
    rng = random.Random(EXAM_SEED)
    names = [
        Question(
            as_chat(
                Exchange(asked, f"Your name is {name}."),
                (Exchange(told.format(n=name), f"Nice to meet you, {name}!"),),
            ),
            asked,
            chat=True,
        )
        for name in chat_tasks.HELD_OUT_NAMES
        for told in chat_tasks.TELL_NAME
        for asked in chat_tasks.ASK_NAME
    ]
    return {
        "facts and greetings": both_formats((*chat_bank.FACT_BANK, *chat_bank.GREETING_BANK)),
        "numbered lists": both_formats(chat_bank.LIST_BANK),
        "JSON replies": both_formats(chat_tasks.json_reply(rng) for _ in range(200)),
        "a held-out name recalled in the next turn": names,
        "unknown questions": both_formats(chat_tasks.unknown(rng) for _ in range(500)),
    }


def playbook_exam() -> dict[str, list[Question]]:
    """Ask the prompts that a first qualification run is likely to ask."""
    sources = {(p.language, p.task): p for p in BANK}
    exchanges = [Exchange(prompt, answer) for prompt, answer in PLAYBOOK]
    for prompt, language, task in PLAYBOOK_CODE:
        exchanges.append(Exchange(prompt, code_tasks.fenced(sources[language, task])))
    questions = both_formats(exchanges)
    for head, language, task in PLAYBOOK_STARTS:
        program = sources[language, task]
        rest = program.source[len(head) :]
        questions.append(Question(Sample(head, f"{rest}\n{END_OF_TEXT}"), head, chat=False))
        whole = as_chat(Exchange(head, code_tasks.fenced(program)))
        questions.append(Question(whole, head, chat=True))
    told = Exchange("My name is Ada.", "Nice to meet you, Ada!")
    asked = Exchange("What is my name?", "Your name is Ada.")
    first, second = Exchange("What is 2+3?", "5"), Exchange("And what is 4+4?", "8")
    for earlier, exchange in ((told, asked), (first, second)):
        questions.append(Question(as_chat(exchange, (earlier,)), exchange.prompt, chat=True))
    return {"playbook": questions}


def whole_exam() -> dict[str, list[Question]]:
    """Return every group of questions by its name."""
    return {**arithmetic_exam(), **code_exam(), **chat_exam(), **playbook_exam()}
