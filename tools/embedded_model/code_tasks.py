"""Code prompts: an instruction answered by a fenced program, or the start of one to complete."""

from __future__ import annotations

import random

from embedded_model.code_bank import BANK, Program
from embedded_model.sample import END_OF_TEXT, Exchange, Sample, as_chat

PHRASINGS = (
    "Write a {l} function to {t}.",
    "Write a {l} function to {t}",
    "Create a {l} function to {t}.",
    "How do I {t} in {l}?",
    "Show me {l} code to {t}.",
    "Please write {l} code to {t}.",
    "{l} function to {t}",
    "Implement a {l} function to {t}.",
    "In {l}, {t}.",
    "Give me a {l} function to {t}.",
    "Write {l} code to {t}.",
    "Write a function in {l} to {t}.",
    "Code a {l} function to {t}.",
)
THAT_PHRASINGS = (
    "Write a {l} function that {t}.",
    "Write a {l} function that {t}",
    "Create a {l} function that {t}.",
    "Write a function in {l} that {t}.",
    "I want a {l} function that {t}.",
)
PYTHON_PHRASINGS = ("Write a function to {t}.", "Write a function to {t} in Python.")
SQL_PHRASINGS = (
    "Write a SQL query to {t}.",
    "Write a SQL query to {t}",
    "Write an SQL query to {t}.",
    "SQL query to {t}",
    "How do I {t} in SQL?",
    "Show me SQL to {t}.",
    "Create a SQL query to {t}.",
    "In SQL, {t}.",
)
HELD_OUT_PHRASINGS = (
    "Can you write a {l} function to {t}?",
    "I need {l} code to {t}.",
    "Write some {l} to {t}",
)
HELD_OUT_SQL_PHRASINGS = ("Can you write a SQL query to {t}?", "I need SQL to {t}.")
IRREGULAR_VERBS = {
    "multiply": "multiplies",
    "search": "searches",
    "fetch": "fetches",
    "flatten": "flattens",
}
EVERYDAY = frozenset({"reverse a string", "check if a number is prime", "add two numbers"})


def third_person(task: str) -> str:
    """Turn "add two numbers" into "adds two numbers"."""
    verb, rest = task.split(" ", 1)
    return f"{IRREGULAR_VERBS.get(verb, verb + 's')} {rest}"


def fenced(program: Program) -> str:
    """Write a program as a Markdown code block."""
    return f"```{program.language.lower()}\n{program.source}\n```"


def phrasings(program: Program) -> list[str]:
    """List every trained instruction that asks for this program."""
    if program.language == "SQL":
        return [p.format(t=program.task) for p in SQL_PHRASINGS]
    texts = [p.format(l=program.language, t=program.task) for p in PHRASINGS]
    task = third_person(program.task)
    texts += [p.format(l=program.language, t=task) for p in THAT_PHRASINGS]
    if program.language == "Python":
        texts += [p.format(t=program.task) for p in PYTHON_PHRASINGS]
    return texts


def held_out_phrasings(program: Program) -> list[str]:
    """List the instructions for this program that training never shows."""
    forms = HELD_OUT_SQL_PHRASINGS if program.language == "SQL" else HELD_OUT_PHRASINGS
    return [p.format(l=program.language, t=program.task) for p in forms]


def random_program(rng: random.Random) -> Program:
    """Draw a program; everyday tasks come up more often."""
    program = rng.choice(BANK)
    if rng.random() < 0.05:
        program = rng.choice([p for p in BANK if p.task in EVERYDAY])
    return program


def instruction(rng: random.Random) -> Exchange:
    """Ask for a program in one of the trained phrasings."""
    program = random_program(rng)
    return Exchange(rng.choice(phrasings(program)), fenced(program))


def _cut(rng: random.Random, source: str) -> int:
    lines = source.split("\n")
    kind = rng.random()
    head = len(lines[0])
    if kind < 0.55 or len(lines) < 3:
        return head
    if kind < 0.75:
        return head + 1  # after the line break
    kept = rng.randint(1, len(lines) - 1)
    return len("\n".join(lines[:kept])) + rng.randint(0, 1)


def completion(rng: random.Random) -> Sample:
    """Give the start of a program: raw prompts get the rest, chat prompts the whole program."""
    program = random_program(rng)
    while "\n" not in program.source:
        program = random_program(rng)
    if rng.random() < 0.15:
        head = program.source.split("\n")[0]
        return as_chat(Exchange(head, fenced(program)))
    cut = _cut(rng, program.source)
    return Sample(program.source[:cut], program.source[cut:] + "\n" + END_OF_TEXT)
