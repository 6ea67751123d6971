"""Which of an answer's numbers counts, and whether it is the value (rules 2-7 of the oracle)."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from pytest_aprqa.oracles.arithmetic.lexer import Kind, Token
from pytest_aprqa.oracles.arithmetic.question import Question
from pytest_aprqa.oracles.arithmetic.statements import (
    ANSWERED,
    FREE,
    STATED,
    Reading,
    Side,
    Statement,
)
from pytest_aprqa.oracles.text import listed

_RETRACTIONS = frozenset(
    listed(
        "no wait actually sorry correction or rather mistake oops instead maybe perhaps "
        "alternatively possibly hmm apologies incorrect wrong"
    )
)
_SEPARATORS = frozenset({"or", "and", ",", "/", "|", "?", ";", "\n"})


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether the answer is right, and the words for it."""

    right: bool
    reason: str


def shown_number(value: Fraction) -> str:
    """Return the number as a person writes it: `4`, `3.5`, `10/3`."""
    if value.denominator == 1:
        return _shortened(str(value.numerator))
    if not _endless(value) and value.denominator < 10**9:
        return _shortened(f"{float(value):.12g}")
    return _shortened(f"{value.numerator}/{value.denominator}")


def _shortened(digits: str) -> str:
    return digits if len(digits) <= 40 else f"{digits[:20]}...{digits[-10:]}"


def _endless(value: Fraction) -> bool:
    """Tell a value whose decimals never end: its denominator has a factor besides 2 and 5."""
    denominator = value.denominator
    for factor in (2, 5):
        while denominator % factor == 0:
            denominator //= factor
    return denominator != 1


def matches(
    value: Fraction,
    shown: Fraction,
    tolerance: float,
    *,
    decimals: int = 0,
    open_ended: bool = False,
) -> bool:
    """Tell whether a number shown with so many decimals states the value."""
    gap = abs(value - shown)
    if gap <= Fraction(repr(tolerance)):
        return True
    if decimals == 0 or not _endless(value):
        return False
    step = Fraction(1, 10**decimals)
    if open_ended:
        return gap < step and abs(shown) <= abs(value)
    return gap <= step / 2


def retracts(token: Token) -> bool:
    """Tell a word such as `no`, `wait` or `or`."""
    return token.kind in (Kind.WORD, Kind.JOIN) and token.text in _RETRACTIONS


@dataclass(frozen=True)
class Claims:
    """The statements of one answer, weighed against the value."""

    reading: Reading
    question: Question
    expected: Fraction
    tolerance: float

    @cached_property
    def retractions(self) -> list[int]:
        """Places of the tokens that retract what was said before them."""
        return [place for place, token in enumerate(self.reading.tokens) if retracts(token)]

    def rule(self) -> Ruling:
        """Apply the rules in their order."""
        for refutation in (self.false_equation(), self.denial(), self.alternatives()):
            if refutation:
                return Ruling(False, refutation)
        claims = self.claims()
        if not claims:
            return Ruling(False, "but no number is claimed for it")
        chosen, conflict = self.chosen(claims)
        if conflict:
            return Ruling(False, conflict)
        side = chosen.sides[-1]
        return Ruling(self.is_value(side), f"found {shown_number(side.value)}")

    def is_value(self, side: Side) -> bool:
        """Tell whether the side states the expected value."""
        return matches(
            self.expected,
            side.value,
            self.tolerance,
            decimals=side.decimals,
            open_ended=side.open_ended,
        )

    def false_equation(self) -> str | None:
        """Return the first equation that does not hold (rule 2)."""
        for statement in self.reading.statements:
            first = statement.sides[0]
            for side in statement.sides[1:]:
                if not self.same(first, side):
                    return f"but it says {self.written(statement)}"
        return None

    def same(self, left: Side, right: Side) -> bool:
        """Tell sides that agree, either of them rounded to the decimals it shows."""
        for exact, shown in ((left, right), (right, left)):
            if shown.bare and matches(
                exact.value,
                shown.value,
                self.tolerance,
                decimals=shown.decimals,
                open_ended=shown.open_ended,
            ):
                return True
        return left.value == right.value

    def written(self, statement: Statement) -> str:
        """Return the statement as the answer wrote it, cut to a line."""
        tokens = self.reading.tokens[statement.start : statement.end]
        words = " ".join(token.raw for token in tokens)
        return words if len(words) <= 60 else words[:57] + "..."

    def denial(self) -> str | None:
        """Return where the answer denies the value (rule 4)."""
        for statement in self.reading.statements:
            side = statement.sides[-1]
            if not statement.negated or len(statement.sides) > 1 or not self.is_value(side):
                continue
            before = self.reading.tokens[max(0, statement.start - 3) : statement.start]
            words = " ".join(token.raw for token in before[-2:])
            return f"but it denies it ({words} {shown_number(side.value)})"
        return None

    def alternatives(self) -> str | None:
        """Find numbers side by side that differ, the value among them."""
        group: list[Statement] = []
        for statement in (*self.reading.statements, None):
            if group and (statement is None or not self.beside(group[-1], statement)):
                if problem := self.undecided(group):
                    return problem
                group = []
            if statement is not None and len(statement.sides) == 1 and statement.sides[0].bare:
                group.append(statement)
        return None

    def undecided(self, group: list[Statement]) -> str | None:
        """Return the numbers of a group that leaves the value one choice of several (rule 5)."""
        values = [statement.sides[0].value for statement in group if not statement.negated]
        if len(set(values)) < 2 or not any(self.is_value(item.sides[0]) for item in group):
            return None
        if set(values) <= self.question.operands:
            return None
        shown = ", ".join(shown_number(value) for value in values[:4])
        return f"but it leaves several numbers to choose from ({shown})"

    def beside(self, left: Statement, right: Statement) -> bool:
        """Tell bare numbers with only a separator between them."""
        between = self.reading.tokens[left.end : right.start]
        if len(between) > 2 or len(right.sides) > 1 or not right.sides[0].bare:
            return False
        return all(token.text in _SEPARATORS for token in between)

    def claims(self) -> list[Statement]:
        """Return the statements that claim a number for the question."""
        claims = []
        for statement in self.reading.statements:
            last = statement.sides[-1]
            if statement.negated or not last.bare or self.pronoun(statement):
                continue
            if len(statement.sides) == 1:
                claims.append(statement)
            elif self.is_value(last):
                strength = max(statement.strength, STATED)
                claims.append(
                    Statement(
                        statement.sides,
                        statement.start,
                        statement.end,
                        strength,
                        False,
                        statement.explicit,
                    )
                )
        return claims

    def pronoun(self, statement: Statement) -> bool:
        """Tell the `one` of `one can see`, which is no number."""
        tokens = self.reading.tokens[statement.start : statement.end]
        lone = len(tokens) == 1 and tokens[0].text == "one"
        return lone and statement.strength == FREE

    def chosen(self, claims: list[Statement]) -> tuple[Statement, str | None]:
        """Return the claim that counts, or how the firm claims contradict each other."""
        leads = self.without_operands([c for c in claims if c.strength == ANSWERED])
        firm = [c for c in leads if c.explicit or c.sides[-1].value not in self.question.operands]
        firm = firm or [c for c in leads if self.is_value(c.sides[-1])]
        if firm:
            chosen = firm[-1]
            for claim in firm[:-1]:
                value = claim.sides[-1].value
                if value == chosen.sides[-1].value or self.both_right(claim, chosen):
                    continue
                if not self.retracted(claim, chosen):
                    values = f"{shown_number(value)}, then {shown_number(chosen.sides[-1].value)}"
                    return chosen, f"but it contradicts itself ({values})"
            return self.after_retraction(chosen, claims), None
        stated = self.without_operands([c for c in claims if c.strength == STATED])
        if stated:
            return self.after_retraction(stated[-1], claims), None
        return self.without_operands(claims)[-1], None

    def both_right(self, left: Statement, right: Statement) -> bool:
        """Tell two claims that both state the value, `3.33` and `10/3`."""
        return self.is_value(left.sides[-1]) and self.is_value(right.sides[-1])

    def without_operands(self, claims: list[Statement]) -> list[Statement]:
        """Drop numbers that only restate the question's, unless nothing else is left."""
        others = [
            claim
            for claim in claims
            if claim.sides[-1].value not in self.question.operands or self.is_value(claim.sides[-1])
        ]
        return others or claims

    def after_retraction(self, chosen: Statement, claims: list[Statement]) -> Statement:
        """Return the claim that replaced the chosen one, if a retraction stands before it."""
        for claim in claims:
            if claim.start >= chosen.end and self.retracted(chosen, claim):
                chosen = claim
        return chosen

    def retracted(self, earlier: Statement, later: Statement) -> bool:
        """Tell whether a word of retraction stands between the two."""
        place = bisect_left(self.retractions, earlier.end)
        return place < len(self.retractions) and self.retractions[place] < later.start
