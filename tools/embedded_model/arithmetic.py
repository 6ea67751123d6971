"""Arithmetic problems in many phrasings, with number pairs and phrasings that are held out."""

from __future__ import annotations

import random
from functools import cache

from embedded_model.sample import Exchange, Problem

NUMBER_WORDS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
)
OTHER_SYMBOLS = {"*": ("x", "×"), "/": ("÷",)}
SYMBOL_SHARE = 0.08
NUMBER_WORD_SHARE = 0.10
WORDS = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}
HELD_OUT_SEED = 20
HELD_OUT_ONE_DIGIT = 12
HELD_OUT_TWO_DIGIT_SHARE = 0.10

MAIN_PHRASINGS = (
    "What is {a} {o} {b}?",
    "What is {a}{o}{b}?",
    "{a} {o} {b} =",
    "{a}{o}{b}=",
    "{a} {o} {b}",
    "{a}{o}{b}",
    "Calculate {a} {o} {b}",
    "Calculate {a}{o}{b}",
    "Calculate {a} {o} {b}.",
    "Compute {a} {o} {b}",
    "Compute {a}{o}{b}.",
    "What's {a} {o} {b}?",
    "What is {a} {w} {b}?",
)
OTHER_PHRASINGS = (
    "How much is {a} {o} {b}?",
    "How much is {a}{o}{b}?",
    "Solve: {a} {o} {b}",
    "Solve {a}{o}{b}.",
    "Tell me {a} {o} {b}.",
    "Tell me what {a} {o} {b} is.",
    "Q: {a}{o}{b}\nA:",
    "Q: What is {a} {o} {b}?\nA:",
    "What is {a}{o}{b}? Answer:",
    "Please compute {a} {o} {b}.",
    "Please calculate {a}{o}{b}.",
    "{a} {w} {b}",
    "{a} {w} {b} is",
    "What's {a} {w} {b}?",
    "What's {a}{o}{b}?",
    "Calculate {a} {w} {b}.",
    "How much is {a} {w} {b}?",
    "{a} {o} {b} = ?",
    "{a} {o} {b}?",
    "{a}{o}{b}=?",
    "Do the math: {a} {o} {b}",
    "Find {a} {o} {b}.",
    "What does {a} {o} {b} equal?",
    "What does {a} {w} {b} make?",
    "What is the result of {a} {o} {b}?",
    "What is the value of {a}{o}{b}?",
    "What is the answer to {a} {o} {b}?",
    "Can you calculate {a} {o} {b}?",
    "Could you tell me {a} {w} {b}?",
    "Math: {a}{o}{b}",
    "Math problem: {a} {o} {b}",
    "I want to know {a} {o} {b}.",
    "I would like to know what {a} {o} {b} is.",
    "Give me {a} {o} {b}.",
    "Give me the answer to {a}{o}{b}.",
    "Work out {a} {w} {b}.",
    "Evaluate: {a}{o}{b}",
    "Evaluate the expression {a} {o} {b}.",
    "Simplify {a} {o} {b}",
    "And what is {a} {o} {b}?",
    "And what is {a}{o}{b}?",
    "And what is {a} {w} {b}?",
    "And {a}{o}{b}?",
    "Now compute {a} {o} {b}.",
    "Do you know {a} {o} {b}?",
    "If you compute {a} {o} {b}, what do you get?",
    "The result of {a} {o} {b} is",
    "The answer to {a}{o}{b} is",
)
OPERATOR_PHRASINGS = {
    "+": (
        "Add {a} and {b}.",
        "Add {b} to {a}.",
        "Add {a} to {b}",
        "What is the sum of {a} and {b}?",
        "Find the sum of {a} and {b}.",
        "The sum of {a} and {b} is",
        "{name} has {a} {thing} and gets {b} more. How many {thing} does {name} have?",
        "If I have {a} {thing} and get {b} more, how many do I have?",
        "There are {a} {thing} and {b} more come. How many {thing} are there?",
        "I have {a} {thing} and buy {b} more. How many do I have now?",
    ),
    "-": (
        "Subtract {b} from {a}.",
        "What is the difference between {a} and {b}?",
        "Take {b} away from {a}.",
        "Take {b} from {a}.",
    ),
    "*": (
        "Multiply {a} by {b}.",
        "Multiply {a} and {b}.",
        "What is the product of {a} and {b}?",
        "What is {a} multiplied by {b}?",
        "The product of {a} and {b} is",
    ),
    "/": ("Divide {a} by {b}.", "What is {a} over {b}?", "How many times does {b} fit into {a}?"),
}
TAKE_AWAY_STORIES = (
    "{name} has {a} {thing} and loses {b}. How many {thing} does {name} have?",
    "{name} has {a} {thing} and gives away {b}. How many are left?",
    "If I have {a} {thing} and eat {b}, how many are left?",
    "If I have {a} {thing} and lose {b}, how many do I have?",
    "There are {a} {thing} and {b} go away. How many {thing} are left?",
    "I have {a} {thing} and sell {b}. How many are left?",
)
HELD_OUT_PHRASINGS = (
    "Can you work out {a} {o} {b}?",
    "Give me the result of {a} {o} {b}.",
    "I need to know {a} {w} {b}.",
    "Please tell me what {a}{o}{b} is.",
    "Hello, what is {a} {o} {b}?",
    "Math question: what's {a}{o}{b}?",
    "Quickly compute {a} {w} {b}",
    "Could you compute {a} {o} {b} for me?",
    "What do you get for {a}{o}{b}?",
    "Evaluate {a} {o} {b}",
)
OPENINGS = (
    "Please answer: ",
    "Hi! ",
    "Hello! ",
    "Question: ",
    "Quick: ",
    "Hey, ",
    "Quick question: ",
)
CLOSINGS = (
    " Answer with just the number.",
    " Answer with a number only.",
    " Answer:",
    " Thanks.",
    " Reply with a number.",
)
NAMES = ("Alice", "Bob", "Ada", "Tom", "Mary", "John")
THINGS = ("apples", "coins", "books", "birds", "eggs", "cakes", "pens", "oranges")


@cache
def held_out_one_digit() -> frozenset[Problem]:
    """Choose the one-digit sums and differences that training never shows."""
    rng = random.Random(HELD_OUT_SEED)
    pairs = [(a, b) for a in range(10) for b in range(10) if a != b]
    chosen: set[Problem] = set()
    for operator in "+-":
        rng.shuffle(pairs)
        taken: list[tuple[int, int]] = []
        for a, b in pairs:  # the mirrored pair stays in training
            if len(taken) < HELD_OUT_ONE_DIGIT and (b, a) not in taken:
                taken.append((a, b))
        chosen.update(Problem(a, operator, b) for a, b in taken)
    return frozenset(chosen)


@cache
def held_out_two_digit() -> frozenset[Problem]:
    """Choose the sums and differences below 100 with a two-digit operand that training omits."""
    rng = random.Random(HELD_OUT_SEED + 1)
    return frozenset(
        Problem(a, operator, b)
        for operator in "+-"
        for a in range(100)
        for b in range(100)
        if max(a, b) > 9 and rng.random() < HELD_OUT_TWO_DIGIT_SHARE
    )


def is_held_out(problem: Problem) -> bool:
    """Tell whether training must never show this problem."""
    return problem in held_out_one_digit() or problem in held_out_two_digit()


def result(problem: Problem) -> int:
    """Compute the right answer (divisions in the data always come out even)."""
    a, b = problem.left, problem.right
    return {"+": a + b, "-": a - b, "*": a * b, "/": a // b if b else 0}[problem.operator]


def _additive(rng: random.Random, operator: str) -> Problem:
    size = rng.random()
    limit = 9 if size < 0.25 else 20 if size < 0.45 else 99
    a, b = rng.randint(0, limit), rng.randint(0, limit)
    if size > 0.97:
        a = rng.randint(100, 999)
    if operator == "-" and a < b and rng.random() < 0.6:
        a, b = b, a
    if operator == "-" and rng.random() < 0.03:
        b = a
    return Problem(a, operator, b)


def random_problem(rng: random.Random, operators: str = "+-*/", limit: int = 10**6) -> Problem:
    """Draw a problem that is not held out, with operands up to `limit`."""
    weights = {"+": 5.0, "-": 5.0, "*": 2.2, "/": 0.8}
    while True:
        operator = rng.choices(operators, [weights[o] for o in operators])[0]
        if operator in "+-":
            problem = _additive(rng, operator)
        elif operator == "*":
            problem = Problem(rng.randint(0, 12), "*", rng.randint(0, 12))
        else:
            b = rng.randint(1, 12)
            problem = Problem(b * rng.randint(0, 12), "/", b)
        if max(problem.left, problem.right) <= limit and not is_held_out(problem):
            return problem


def ask(
    rng: random.Random, problem: Problem, phrasing: str, word_share: float = NUMBER_WORD_SHARE
) -> Exchange:
    """Fill a phrasing with a problem; `word_share` of "a plus b" is written in number words."""
    symbol, operands = problem.operator, (str(problem.left), str(problem.right))
    if symbol in OTHER_SYMBOLS and rng.random() < SYMBOL_SHARE:
        symbol = rng.choice(OTHER_SYMBOLS[symbol])
    in_words = "{w}" in phrasing and rng.random() < word_share
    if in_words and max(problem.left, problem.right) < len(NUMBER_WORDS):
        operands = (NUMBER_WORDS[problem.left], NUMBER_WORDS[problem.right])
    prompt = phrasing.format(
        a=operands[0],
        b=operands[1],
        o=symbol,
        w=WORDS[problem.operator],
        name=rng.choice(NAMES),
        thing=rng.choice(THINGS),
    )
    return Exchange(prompt, str(result(problem)), (problem,))


def main_exchange(rng: random.Random) -> Exchange:
    """Ask a problem in one of the most common phrasings."""
    return ask(rng, random_problem(rng), rng.choice(MAIN_PHRASINGS))


def bare_exchange(rng: random.Random) -> Exchange:
    """Ask a sum or difference (now and then a product) as bare digits, such as `2+2=`."""
    operators = "+-" if rng.random() < 0.85 else "+-*"
    phrasing = rng.choice(("{a}{o}{b}=", "{a}{o}{b}=", "{a} {o} {b} ="))
    return ask(rng, random_problem(rng, operators, limit=99), phrasing)


def varied_exchange(rng: random.Random) -> Exchange:
    """Ask a problem in any trained phrasing, at times with an opening and a closing."""
    problem = random_problem(rng)
    kind = rng.random()
    if kind < 0.18:
        phrasings = OPERATOR_PHRASINGS[problem.operator]
        if problem.operator == "-" and problem.left >= problem.right and rng.random() < 0.6:
            phrasings = TAKE_AWAY_STORIES
        return ask(rng, problem, rng.choice(phrasings))
    phrasing = rng.choice(OTHER_PHRASINGS if kind < 0.8 else MAIN_PHRASINGS)
    exchange = ask(rng, problem, phrasing)
    if exchange.prompt[-1] in "?." and rng.random() < 0.35:
        opening = rng.choice(OPENINGS) if rng.random() < 0.5 else ""
        closing = rng.choice(CLOSINGS) if rng.random() < 0.5 else ""
        return Exchange(opening + exchange.prompt + closing, exchange.answer, exchange.problems)
    return exchange


def exchange(rng: random.Random) -> Exchange:
    """Ask a problem: half the time in a common phrasing, else in any."""
    return main_exchange(rng) if rng.random() < 0.5 else varied_exchange(rng)
