"""What an answer states: its equations and the numbers it claims, restated expressions apart."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from pytest_aprqa.oracles.arithmetic.expression import Parsed, Unparsable, parse
from pytest_aprqa.oracles.arithmetic.lexer import Kind, Token, normalize, tokenize
from pytest_aprqa.oracles.arithmetic.question import Question
from pytest_aprqa.oracles.text import listed

FREE, STATED, ANSWERED = 1, 2, 3
"""How firmly a number is claimed: it stands there; after `is`; after `answer`, or as the lead."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of an equation, or a lone number: its value and how it was shown."""

    value: Fraction
    decimals: int = 0
    open_ended: bool = False
    bare: bool = True
    """A number by itself, not an expression."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A claimed number (one side) or an equation (several), with its place among the tokens."""

    sides: tuple[Side, ...]
    start: int
    end: int
    strength: int = FREE
    negated: bool = False
    explicit: bool = False
    """The words `answer`, `result` or the like introduce it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The tokens of an answer and the statements found in them, in order."""

    tokens: tuple[Token, ...]
    statements: tuple[Statement, ...]


_REMAINDER = re.compile(
    r"\b(\d{1,15})\s*,?\s*(?:(?:and|with)\s+)?(?:a\s+)?(?:remainder(?:\s+(?:of|is))?|r\.?)\s*:?\s*"
    r"(\d{1,15})\b",
    re.IGNORECASE,
)
_NEW_TURN = re.compile(
    r"(?:^|\n|(?<=[.!?])\s)\s*(?:(?:q|question|user|human|problem)\s*\d*\s*[:.]"
    r"|(?:what(?:'s| is)|how much is|calculate|compute)\b[^.\n?]{0,80}\d[^\n?]{0,80}\?)",
    re.IGNORECASE,
)
_LIST_NUMBER = re.compile(r"^([ \t]*)(\d{1,2})[.)][ \t]+(?=\S)", re.MULTILINE)
_STEP_NUMBER = re.compile(r"\bstep[ \t]+\d{1,2}\b[ \t]*[:.]?", re.IGNORECASE)
_BULLET = re.compile(r"^[ \t]*[-*\u2022][ \t]+(?=\S)", re.MULTILINE)
_SPACED_NEGATIVE = re.compile(r"-[ \t]+[\d.,]+")
_HEADING = re.compile(r"^#{1,6}[ \t]+", re.MULTILINE)

_FILLER = frozenset(
    listed(
        "a an the you us me exactly about approximately roughly just simply only of value "
        'number be to equal precisely total sum product difference quotient result answer : " '
        "' * # ( ["
    )
)
_ANSWER_WORDS = frozenset(listed("answer result total output solution final boxed"))
_LINKS = frozenset(listed("so thus therefore hence get gets have obtain left become : = ->"))
_NEGATIONS = frozenset(
    listed("not isn't isn\u2019t never n't neither nor aren't aren\u2019t cannot")
)
_COMPARISONS = frozenset(listed("more greater less larger smaller fewer above below under"))


def read_answer(answer: str, question: Question) -> Reading:
    """Return the statements of an answer up to where it starts on another question."""
    tokens = tokenize(_prepared(answer, question))
    statements: list[Statement] = []
    at = 0
    while at < len(tokens):
        statement = _statement(tokens, at, question)
        if isinstance(statement, int):
            at = statement
            continue
        statements.append(_weighed(statement, tokens))
        at = statement.end
    return Reading(tuple(tokens), tuple(statements))


def _prepared(answer: str, question: Question) -> str:
    text = _HEADING.sub("", normalize(answer)).strip()
    text = _STEP_NUMBER.sub(" ", text)
    numbers = [int(found[2]) for found in _LIST_NUMBER.finditer(text)]
    if len(numbers) > 1 and numbers[0] == 1 and numbers[1] == 2:
        text = _LIST_NUMBER.sub(r"\1", text)
    if not _SPACED_NEGATIVE.fullmatch(text):
        text = _BULLET.sub("", text)
    turn = _NEW_TURN.search(text)
    while turn and not any(char.isdigit() for char in text[: turn.start()]):
        turn = _NEW_TURN.search(text, turn.end())
    if turn:
        text = text[: turn.start()]
    if question.quotient:
        text = _REMAINDER.sub(lambda found: _quotient_and_rest(found, question), text)
    return text


def _quotient_and_rest(found: re.Match[str], question: Question) -> str:
    """Write `3 remainder 1` as the exact quotient it states of the question's division."""
    top, bottom = question.quotient or (0, 1)
    whole, rest = int(found[1]), int(found[2])
    if rest >= bottom:
        return f"\u27ea{whole * bottom + rest + top + 1}/{bottom}\u27eb"
    return f"\u27ea{whole * bottom + rest}/{bottom}\u27eb"


def _statement(tokens: list[Token], at: int, question: Question) -> Statement | int:
    """Return the statement that starts here, or the next place to look."""
    try:
        first = _parse_side(tokens, at)
    except Unparsable as problem:
        return _skip(tokens, at, beyond_bounds="too" in str(problem))
    sides = [_side(tokens, at, first, question)]
    end = first.end
    while end < len(tokens) and tokens[end].kind is Kind.EQUALS:
        begin = _after_filler(tokens, end + 1)
        try:
            parsed = _parse_side(tokens, begin)
        except Unparsable:
            break
        if tokens[end].text not in ("=", "==") and not any(not side.bare for side in sides):
            break
        sides.append(_side(tokens, begin, parsed, question))
        end = parsed.end
    if len(sides) > 1 and all(side.bare for side in sides):
        return Statement(tuple(sides[-1:]), at, end, STATED)
    return Statement(tuple(sides), at, end)


def _skip(tokens: list[Token], at: int, *, beyond_bounds: bool) -> int:
    """Return the place after a token that starts nothing; what is beyond bounds goes whole."""
    following = at + 1
    while beyond_bounds and following < len(tokens) and tokens[following].kind is not Kind.STOP:
        following += 1
    return following


def _after_filler(tokens: list[Token], at: int) -> int:
    """Skip the words between an equals sign and its value: `= approximately`, `is exactly`."""
    for _ in range(3):
        if at < len(tokens) and (
            tokens[at].text in ("exactly", "approximately", "about", "roughly", "just", "simply")
            or (tokens[at].kind is Kind.EQUALS and tokens[at].text not in ("is", "are"))
        ):
            at += 1
    return at


def _parse_side(tokens: list[Token], at: int) -> Parsed:
    if at >= len(tokens):
        raise Unparsable("it ends too early")
    token = tokens[at]
    if token.kind is Kind.OPERATOR and 0 < at < len(tokens) - 1:
        before, behind = tokens[at - 1], tokens[at + 1]
        hyphen = before.end == token.start and token.end == behind.start
        if hyphen and before.kind in (Kind.WORD, Kind.NUMBER, Kind.CLOSE):
            raise Unparsable("a hyphen is no minus sign")
    if token.kind in (Kind.FUNCTION, Kind.OPEN, Kind.NUMBER, Kind.OPERATOR):
        return parse(tokens, at)
    raise Unparsable(f"{token.raw!r} is not part of an expression")


def _side(tokens: list[Token], at: int, parsed: Parsed, question: Question) -> Side:
    last = tokens[parsed.end - 1]
    span = tokens[at : parsed.end]
    numbers = [token for token in span if token.kind is Kind.NUMBER]
    if not parsed.operations:
        decimals = last.decimals if len(numbers) == 1 else 0
        return Side(parsed.value, decimals, last.open_ended and len(numbers) == 1)
    operands = {number.value for number in numbers}
    ratio = parsed.operations == 1 and len(numbers) == 2 and any(t.text == "/" for t in span)
    return Side(parsed.value, bare=ratio and not operands <= question.operands)


def _weighed(statement: Statement, tokens: list[Token]) -> Statement:
    """Return the statement with its strength: what introduces it, and whether it is denied."""
    strength, explicit = statement.strength, False
    at = statement.start - 1
    negated = _denied(tokens, statement.start) or _denied_after(tokens, statement.end)
    for _ in range(6):
        if at < 0 or tokens[at].kind in (Kind.STOP, Kind.NUMBER):
            break
        text = tokens[at].text
        if text in _ANSWER_WORDS:
            strength, explicit = ANSWERED, True
            break
        if tokens[at].kind is Kind.EQUALS or text in _LINKS:
            strength = max(strength, STATED)
        elif text not in _FILLER:
            break
        at -= 1
    if _leads(statement, tokens):
        strength = ANSWERED
    return Statement(statement.sides, statement.start, statement.end, strength, negated, explicit)


def _denied(tokens: list[Token], start: int) -> bool:
    """Tell `not 4`, `isn't exactly 4`, `more than 4`: no claim of the number."""
    before = [token.text for token in tokens[max(0, start - 3) : start]]
    for place in range(len(before) - 1, -1, -1):
        text = before[place]
        if text in _NEGATIONS:
            return True
        if text == "than":
            return place > 0 and before[place - 1] in _COMPARISONS
        if text not in _FILLER and text not in ("equal", "equals", "equal to"):
            return False
    return False


def _denied_after(tokens: list[Token], end: int) -> bool:
    """Tell `4 is not the answer` and `4 isn't right`."""
    following = [token.text for token in tokens[end : end + 2]]
    if following[:1] and following[0] in ("isn't", "isn\u2019t", "wasn't", "wasn\u2019t"):
        return True
    return following in (["is", "not"], ["was", "not"])


def _leads(statement: Statement, tokens: list[Token]) -> bool:
    """Tell a number that opens the answer and stands alone there: `4`, `4.`, `= 4 (four)`."""
    if any(token.kind is not Kind.EQUALS for token in tokens[: statement.start]):
        return False
    if len(statement.sides) > 1 or not statement.sides[0].bare:
        return False
    following = tokens[statement.end : statement.end + 2]
    if not following:
        return True
    if following[0].kind in (Kind.STOP, Kind.OPEN):
        return True
    return following[0].text in (",", ":") and following[-1].kind is not Kind.NUMBER
