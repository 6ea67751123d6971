"""Which expression a question asks the value of, or why it asks for none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from pytest_aprqa.oracles.arithmetic.expression import Parsed, Unparsable, parse
from pytest_aprqa.oracles.arithmetic.lexer import Kind, Token, normalize, tokenize
from pytest_aprqa.oracles.text import quoted

MAX_QUESTION = 2_000
"""Longest question read for an expression, in characters; arithmetic is asked in one line."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a question asks: its value, and the numbers it names."""

    value: Fraction | None
    operands: frozenset[Fraction]
    problem: str = ""
    """Why there is no value."""
    quotient: tuple[int, int] | None = None
    """Dividend and divisor when the question is one division of whole numbers."""


_LEADS = re.compile(
    r"^\s*(?:(?:q|question|problem|task|math)\s*\d{0,3}\s*[:.)]\s*|please\b,?|hi\b[,!]?|hello\b[,!]?"
    r"|(?:can|could|would) you\b|tell me\b"
    r"|what(?:'s|\u2019s|s| is| are| does| do you get (?:if|when) you)?\b"
    r"|how much (?:is|are|does)\b|how many (?:is|are)\b|calculate\b|compute\b|evaluate\b|solve\b"
    r"|simplify\b|find\b|work out\b|determine\b|give\b|answer this\b|me\b|if you\b|the value of\b"
    r"|the (?:result|answer|outcome) (?:of|to)\b|the following\b|expression\b|when you\b|:)\s*",
    re.IGNORECASE,
)
_TAILS = re.compile(
    r"(?:[\s=?.:!\u2026_]"
    r"|\b(?:equals?|equal to|is|make|makes|please|a:|answer:|the answer is|result:))$",
    re.IGNORECASE,
)
_INSTRUCTION = re.compile(
    r"^\s*(?:answer|respond|reply|give|show|think|explain|use|write|provide|return|output|just|only"
    r"|please|let'?s|do not|don'?t|be|round|your answer|no)\b",
    re.IGNORECASE,
)
_SEGMENT = re.compile(r"(?<=[?.!:])\s+|\n+")
_HAS_NUMBER = frozenset({Kind.NUMBER})


def read_question(question: str) -> Question:
    """Return what the question asks; without one whole expression it says why there is no value."""
    text = normalize(question[:MAX_QUESTION])
    tokens = tokenize(text)
    operands = frozenset(token.value for token in tokens if token.kind is Kind.NUMBER)
    shown = quoted(question.strip())
    if len(question) > MAX_QUESTION:
        return Question(None, operands, f"{shown} is longer than {MAX_QUESTION} characters")
    segments = [segment for segment in _SEGMENT.split(text) if _asks(segment)]
    if not segments:
        return Question(None, operands, f"{shown} holds no expression")
    if len(segments) > 1:
        return Question(None, operands, f"{shown} holds more than one expression or number")
    body = _bare(segments[0])
    body_tokens = tokenize(body)
    try:
        parsed = _parse_whole(body_tokens)
    except Unparsable as problem:
        return Question(None, operands, f"{shown} cannot be evaluated: {problem}")
    if not parsed.operations:
        return Question(None, operands, f"{shown} holds a number but no operation")
    return Question(parsed.value, operands, quotient=_quotient(body_tokens))


def _asks(segment: str) -> bool:
    """Tell a segment that holds numbers, other than an instruction on how to answer."""
    tokens = tokenize(segment)
    if not any(token.kind in _HAS_NUMBER for token in tokens):
        return False
    instruction = _INSTRUCTION.match(segment) and not any(char.isdigit() for char in segment)
    return not (instruction and not any(token.kind is Kind.OPERATOR for token in tokens))


def _bare(text: str) -> str:
    """Strip the question's politeness, its `What is` and its `= ?`."""
    while True:
        shorter = _LEADS.sub("", text, count=1).strip()
        trimmed = _TAILS.sub("", shorter).strip()
        if trimmed == text:
            return trimmed
        text = trimmed


def _parse_whole(tokens: list[Token]) -> Parsed:
    return parse(tokens, 0, whole=True)


def _quotient(tokens: list[Token]) -> tuple[int, int] | None:
    """Return the operands of a lone division such as `10 / 3` or `divide 10 by 3`."""
    numbers = [token.value for token in tokens if token.kind is Kind.NUMBER]
    divides = any(token.text in ("/", "divide", "quotient") for token in tokens)
    operations = [token for token in tokens if token.kind in (Kind.OPERATOR, Kind.FUNCTION)]
    if len(numbers) != 2 or not divides or len(operations) != 1:
        return None
    top, bottom = numbers
    if top.denominator != 1 or bottom.denominator != 1 or bottom <= 0 or top < 0:
        return None
    return int(top), int(bottom)
