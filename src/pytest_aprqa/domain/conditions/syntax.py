"""The language of conditions: from `tps >= 10 && !is_garbage(output)` to a tree.

condition   = either [ "=>" condition | "?" condition ":" condition ]
either      = both { ( "||" | "or" ) both }
both        = negation { ( "&&" | "and" ) negation }
negation    = ( "!" | "not" ) negation | comparison
comparison  = sum [ ( "==" | "!=" | "<" | "<=" | ">" | ">=" | "≈" ) sum ]
sum         = product { ( "+" | "-" ) product }
product     = signed { ( "*" | "/" ) signed }
signed      = "-" signed | value
value       = number | 'text' | "true" | "false" | "(" condition ")"
| name [ "(" [ condition { "," condition } ] ")" ] { "." name [ "(" … ")" ] }
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_aprqa.domain.errors import AprqaError

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
      | (?P<text>'[^']*'|"[^"]*")
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<sign>=>|==|!=|<=|>=|&&|\|\||[<>!≈+\-*/().,?:])
    )""",
    re.X,
)
_DEEPEST = 32
_LONGEST = 2000
_WORDS = {"and": "&&", "or": "||", "not": "!"}
_COMPARISONS = ("==", "!=", "<=", ">=", "<", ">", "≈")


class ConditionError(AprqaError):
    """A condition cannot be read, or asks for what nothing measures."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, a text, or a truth value."""

    value: float | str | bool


@dataclass(frozen=True, slots=True)
class Name:
    """Something that the evidence says."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function of values: `is_garbage(output)`; `output.len()` is `len(output)`."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator between its operands; `?` has three."""

    sign: str
    operands: tuple[Node, ...]


Node = Constant | Name | Call | Operation


def parse(text: str) -> Node:
    """The tree of a condition.

    Raises:
        ConditionError: it is none; the message shows where.
    """
    if len(text) > _LONGEST:
        raise ConditionError(f"the condition has {len(text)} characters; at most {_LONGEST}")
    parser = _Parser(text, list(_tokens(text)))
    node = parser.condition(0)
    parser.expect_end()
    return node


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise ConditionError(f"{text[at:].strip()[:20]!r} is no part of a condition")
        word = found.group(found.lastgroup)
        sign = _WORDS.get(word)
        yield _Token("sign" if sign else found.lastgroup, sign or word, at)
        at = found.end()


class _Parser:
    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text, self._tokens, self._at = text, tokens, 0

    def condition(self, depth: int) -> Node:
        if depth > _DEEPEST:
            raise ConditionError(f"the condition is nested more than {_DEEPEST} deep")
        left = self._joined(("||",), depth)
        if self._take("=>"):
            return Operation("=>", (left, self.condition(depth + 1)))
        if self._take("?"):
            then = self.condition(depth + 1)
            self._need(":")
            return Operation("?", (left, then, self.condition(depth + 1)))
        return left

    def expect_end(self) -> None:
        if self._at < len(self._tokens):
            raise self._error("expected the end")

    def _joined(self, signs: tuple[str, ...], depth: int) -> Node:
        """Operators of one level, the loosest first, left to right."""
        levels = (("||",), ("&&",), ("!",), _COMPARISONS, ("+", "-"), ("*", "/"))
        place = levels.index(signs)
        if signs == ("!",):
            if self._take("!"):
                self._guard(depth)
                return Operation("!", (self._joined(("!",), depth + 1),))
            return self._joined(_COMPARISONS, depth)
        tighter = levels[place + 1] if place + 1 < len(levels) else None
        left = self._signed(depth) if tighter is None else self._joined(tighter, depth)
        while (sign := self._one_of(signs)) is not None:
            right = self._signed(depth) if tighter is None else self._joined(tighter, depth)
            left = Operation(sign, (left, right))
            if signs == _COMPARISONS:
                break
        return left

    def _signed(self, depth: int) -> Node:
        if self._take("-"):
            self._guard(depth)
            return Operation("-", (Constant(0.0), self._signed(depth + 1)))
        return self._value(depth)

    def _value(self, depth: int) -> Node:
        if self._at >= len(self._tokens):
            raise self._error("a value is missing")
        token = self._tokens[self._at]
        if token.kind == "number":
            self._at += 1
            return Constant(float(token.text))
        if token.kind == "text":
            self._at += 1
            return Constant(token.text[1:-1])
        if token.kind == "name":
            self._at += 1
            return self._named(token.text, depth)
        if self._take("("):
            inner = self.condition(depth + 1)
            self._need(")")
            return inner
        raise self._error("a value is missing")

    def _named(self, name: str, depth: int) -> Node:
        if name in ("true", "false"):
            return Constant(name == "true")
        node: Node = Call(name, self._arguments(depth)) if self._take("(") else Name(name)
        while self._take("."):
            if self._at >= len(self._tokens) or self._tokens[self._at].kind != "name":
                raise self._error("a name is missing after the dot")
            method = self._tokens[self._at].text
            self._at += 1
            more = self._arguments(depth) if self._take("(") else ()
            node = Call(method, (node, *more))
        return node

    def _arguments(self, depth: int) -> tuple[Node, ...]:
        found: list[Node] = []
        while not self._take(")"):
            if found:
                self._need(",")
            found.append(self.condition(depth + 1))
        return tuple(found)

    def _guard(self, depth: int) -> None:
        if depth > _DEEPEST:
            raise ConditionError(f"the condition is nested more than {_DEEPEST} deep")

    def _one_of(self, signs: tuple[str, ...]) -> str | None:
        return next((sign for sign in signs if self._take(sign)), None)

    def _take(self, sign: str) -> bool:
        if self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.kind == "sign" and token.text == sign:
                self._at += 1
                return True
        return False

    def _need(self, sign: str) -> None:
        if not self._take(sign):
            raise self._error(f"expected {sign!r}")

    def _error(self, text: str) -> ConditionError:
        if self._at >= len(self._tokens):
            return ConditionError(f"{text} at the end of {self._text!r}")
        at = self._tokens[self._at].at
        return ConditionError(f"{text} at {self._text[at:].strip()[:20]!r} in {self._text!r}")
