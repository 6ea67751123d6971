"""What a run of tokens is worth as an expression, exactly and within bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

from pytest_aprqa.oracles.arithmetic.lexer import Kind, Token

MAX_DEPTH = 20
"""Deepest nesting read; a person writes three or four."""

MAX_EXPONENT = 1_000
"""Largest exponent; 10**1000 is already more digits than any answer holds."""

MAX_BITS = 8_192
"""Largest operand of an operation, so that a chain of powers stays cheap."""


class Unparsable(Exception):
    """The tokens are no expression that can be evaluated; the message says why."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """An expression's value, the token after it and how many operations it holds."""

    value: Fraction
    end: int
    operations: int


def parse(tokens: list[Token], start: int, *, whole: bool = False) -> Parsed:
    """Return the longest expression from `start`; `whole` refuses tokens left over."""
    parser = _Parser(tokens, start)
    value = parser.sum()
    if whole and parser.at < len(tokens):
        raise Unparsable(f"{tokens[parser.at].raw!r} is not part of an expression")
    return Parsed(value, parser.at, parser.operations)


class _Parser:
    """Recursive descent over the tokens; it backs off before an operator with nothing behind."""

    def __init__(self, tokens: list[Token], start: int) -> None:
        self.tokens = tokens
        self.at = start
        self.operations = 0
        self.depth = 0

    def peek(self, kind: Kind, *texts: str) -> bool:
        if self.at >= len(self.tokens) or self.tokens[self.at].kind is not kind:
            return False
        return not texts or self.tokens[self.at].text in texts

    def chain(self, texts: tuple[str, ...], operand: str) -> Fraction:
        """Read `operand (op operand)*`, left to right."""
        value = self.operand(operand)
        while self.peek(Kind.OPERATOR, *texts):
            mark, operations = self.at, self.operations
            operator = self.tokens[self.at].text
            self.at += 1
            try:
                right = self.operand(operand)
            except Unparsable as problem:
                if "zero" in str(problem):
                    raise
                self.at, self.operations = mark, operations
                break
            value = apply(operator, value, right)
            self.operations += 1
        return value

    def operand(self, name: str) -> Fraction:
        if name == "product":
            return self.chain(("*", "/", "%"), "signed")
        return self.signed()

    def sum(self) -> Fraction:
        return self.chain(("+", "-"), "product")

    def signed(self) -> Fraction:
        """Read one operand; every recursion comes through here, so the depth is counted here."""
        self.depth += 1
        try:
            if self.depth > MAX_DEPTH:
                raise Unparsable("it is nested too deeply")
            return self.with_sign()
        finally:
            self.depth -= 1

    def with_sign(self) -> Fraction:
        sign = 1
        signs = 0
        while self.peek(Kind.OPERATOR, "-", "+") or self.peek(Kind.FUNCTION, "negate"):
            sign = sign if self.tokens[self.at].text == "+" else -sign
            self.at += 1
            signs += 1
            if signs > 3:
                raise Unparsable("it has a pile of signs")
        return sign * self.power()

    def power(self) -> Fraction:
        value = self.postfixed()
        if not self.peek(Kind.OPERATOR, "^"):
            return value
        mark = self.at
        self.at += 1
        try:
            exponent = self.signed()
        except Unparsable:
            self.at = mark
            return value
        self.operations += 1
        return apply("^", value, exponent)

    def postfixed(self) -> Fraction:
        value = self.atom()
        while self.peek(Kind.POSTFIX):
            text = self.tokens[self.at].text
            self.at += 1
            self.operations += 1
            if text == "%of":
                return value / 100 * self.signed()
            value = apply("^", value, Fraction(int(text[1:])))
        return value

    def atom(self) -> Fraction:
        if self.at >= len(self.tokens):
            raise Unparsable("it ends too early")
        token = self.tokens[self.at]
        if token.kind is Kind.NUMBER:
            self.at += 1
            return self.percent_of(token) if token.raw.endswith("%") else self.mixed(token)
        if token.kind is Kind.OPEN:
            return self.bracketed()
        if token.kind is Kind.FUNCTION:
            self.at += 1
            self.operations += 1
            return self.function(token.text)
        if token.kind is Kind.WORD and token.text == "the" and self.function_follows():
            self.at += 1
            return self.atom()
        raise Unparsable(f"{token.raw!r} is not part of an expression")

    def function_follows(self) -> bool:
        following = self.tokens[self.at + 1 : self.at + 2]
        return bool(following) and following[0].kind is Kind.FUNCTION

    def percent_of(self, token: Token) -> Fraction:
        """Read `15% of 200`."""
        if self.at + 1 < len(self.tokens) and self.tokens[self.at].text == "of":
            mark = self.at
            self.at += 1
            try:
                base = self.signed()
            except Unparsable:
                self.at = mark
                return token.value
            self.operations += 1
            return token.value * base
        return token.value

    def mixed(self, token: Token) -> Fraction:
        """Read `3 1/3`, a mixed number."""
        parts = self.tokens[self.at : self.at + 3]
        if len(parts) == 3 and [part.kind for part in parts] == [
            Kind.NUMBER,
            Kind.OPERATOR,
            Kind.NUMBER,
        ]:
            top, slash, bottom = parts
            joined = slash.raw == "/" and top.end == slash.start and slash.end == bottom.start
            if joined and token.raw.isdigit() and top.value < bottom.value:
                self.at += 3
                return token.value + top.value / bottom.value
        return token.value

    def bracketed(self) -> Fraction:
        self.at += 1
        value = self.sum()
        if not self.peek(Kind.CLOSE):
            raise Unparsable("a bracket is not closed")
        self.at += 1
        return value

    def function(self, name: str) -> Fraction:
        if name in _UNARY:
            return _UNARY[name](self.signed())
        joins = {
            "subtract": ("from",),
            "add": ("and", "to", ","),
            "divide": ("by",),
            "multiply": ("by", "and"),
        }.get(name, ("and", ","))
        values = [self.chain(("*", "/"), "signed")]
        while self.peek(Kind.JOIN, *joins):
            mark = self.at
            while self.peek(Kind.JOIN, *joins):
                self.at += 1
            try:
                values.append(self.chain(("*", "/"), "signed"))
            except Unparsable:
                self.at = mark
                break
        return _combine(name, values)


def _combine(name: str, values: list[Fraction]) -> Fraction:
    if len(values) < 2:
        raise Unparsable(f"{name!r} needs two numbers")
    if name in ("sum", "add"):
        return sum(values, Fraction(0))
    if name in ("product", "multiply"):
        value = Fraction(1)
        for factor in values:
            value = apply("*", value, factor)
        return value
    if len(values) > 2:
        raise Unparsable(f"{name!r} takes two numbers")
    left, right = values
    if name in ("quotient", "divide"):
        return apply("/", left, right)
    return right - left if name == "subtract" else left - right


def _root(value: Fraction) -> Fraction:
    if value < 0:
        raise Unparsable("the root of a negative number is not real")
    root = Fraction(isqrt(value.numerator), isqrt(value.denominator))
    if root * root != value:
        raise Unparsable("the square root is not rational")
    return root


_UNARY: dict[str, Callable[[Fraction], Fraction]] = {
    "half": lambda value: value / 2,
    "third": lambda value: value / 3,
    "quarter": lambda value: value / 4,
    "twice": lambda value: value * 2,
    "thrice": lambda value: value * 3,
    "square": lambda value: value * value,
    "cube": lambda value: value * value * value,
    "root": _root,
    "negate": lambda value: -value,
}


def apply(operator: str, left: Fraction, right: Fraction) -> Fraction:
    """Return `left operator right`; raises Unparsable for a zero divisor or what is too large."""
    if max(_bits(left), _bits(right)) > MAX_BITS:
        raise Unparsable("it is too large")
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    if operator == "^":
        return _power(left, right)
    if right == 0:
        raise Unparsable("it divides by zero")
    return left / right if operator == "/" else left % right


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise Unparsable("its exponent is not whole")
    if abs(exponent) > MAX_EXPONENT or abs(exponent) * _bits(base) > MAX_BITS:
        raise Unparsable("its power is too large")
    if base == 0 and exponent < 0:
        raise Unparsable("it divides by zero")
    return Fraction(base ** int(exponent))


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())
