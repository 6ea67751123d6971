"""What the tokens of a question or an answer are: numbers, operators, marks and words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from pytest_aprqa.oracles.arithmetic.numerals import (
    NUMBER_WORDS,
    SCALE_WORDS,
    read_numeral,
    read_words,
)


class Kind(Enum):
    """What part a token plays in an expression or a sentence."""

    NUMBER = "number"
    OPERATOR = "operator"
    POSTFIX = "postfix"
    FUNCTION = "function"
    OPEN = "open"
    CLOSE = "close"
    EQUALS = "equals"
    JOIN = "join"
    STOP = "stop"
    MARK = "mark"
    WORD = "word"


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `text` is its canonical form (`plus` is `+`), `raw` what was written."""

    kind: Kind
    text: str
    raw: str
    start: int
    end: int
    value: Fraction = Fraction(0)
    decimals: int = 0
    open_ended: bool = False
    """An ellipsis follows: the decimals shown are cut, not rounded."""


_OPERATORS = {
    "plus": "+",
    "added to": "+",
    "increased by": "+",
    "minus": "-",
    "take away": "-",
    "decreased by": "-",
    "reduced by": "-",
    "less": "-",
    "times": "*",
    "multiplied by": "*",
    "divided by": "/",
    "over": "/",
    "modulo": "%",
    "mod": "%",
    "to the power of": "^",
    "raised to the power of": "^",
    "raised to": "^",
}
_POSTFIXES = {"squared": "^2", "cubed": "^3", "percent of": "%of", "per cent of": "%of"}
_FUNCTIONS = {
    "sum of": "sum",
    "total of": "sum",
    "difference between": "difference",
    "difference of": "difference",
    "product of": "product",
    "quotient of": "quotient",
    "square root of": "root",
    "square of": "square",
    "cube of": "cube",
    "one half of": "half",
    "half of": "half",
    "half": "half",
    "one third of": "third",
    "a third of": "third",
    "one quarter of": "quarter",
    "a quarter of": "quarter",
    "twice": "twice",
    "double": "twice",
    "triple": "thrice",
    "thrice": "thrice",
    "adding": "add",
    "add": "add",
    "subtracting": "subtract",
    "subtract": "subtract",
    "multiplying": "multiply",
    "multiply": "multiply",
    "dividing": "divide",
    "divide": "divide",
    "negative": "negate",
}
_EQUALS = (
    "is equal to",
    "is approximately equal to",
    "is approximately",
    "is about",
    "are equal to",
    "equal to",
    "equals to",
    "equals",
    "equal",
    "is",
    "are",
    "was",
    "gives you",
    "gives us",
    "gives",
    "give",
    "makes",
    "make",
    "yields",
    "results in",
    "comes to",
    "comes out to",
    "becomes",
)
_JOINS = ("and", "or", "by", "from", "to", "with")
_NUMBER = r"(?:\d{1,3}(?:[,\u00a0\u202f]\d{3})+(?!\d)|\d+(?:_\d{3})*)(?:\.\d+)?|\.\d+"


def _phrases(table: Iterable[str]) -> str:
    phrases = sorted(table, key=len, reverse=True)
    return "|".join(re.escape(phrase).replace(r"\ ", r"[ \t]+") for phrase in phrases)


_TOKEN = re.compile(
    rf"""
    (?P<exact>\u27ea(?P<top>\d+)/(?P<bottom>\d+)\u27eb)
  | (?P<noise>\d+(?:\.\d+){{2,}} | \d+:\d\d(?:\:\d\d)? | \d+(?:\.\d+)?(?!e[+-]?\d)[^\W\d_]\w*)
  | (?P<number>{_NUMBER})(?P<power>e[+-]?\d{{1,3}}(?!\w))?
    (?P<percent>[ ]?%(?=\s+of\b)|%(?!\s*[\d(]))?(?P<ellipsis>\.\.\.|\u2026)?
  | (?P<operator>\*\*|[-+*/%^] | \b(?:{_phrases(_OPERATORS)})\b(?!\s+than))
  | (?P<postfix>\b(?:{_phrases(_POSTFIXES)})\b)
  | (?P<function>\u221a|\bsqrt\b|\b(?:{_phrases(_FUNCTIONS)})\b)
  | (?P<open>[(\[])
  | (?P<close>[)\]])
  | (?P<equals>=>|==|[=\u2248\u2243\u2192]|\b(?:{_phrases(_EQUALS)})\b)
  | (?P<join>,|\b(?:{"|".join(_JOINS)})\b)
  | (?P<stop>[.!?;]+|\n|\u3002)
  | (?P<word>\w+(?:['\u2019]\w+)*)
  | (?P<mark>[^\s\w])
    """,
    re.VERBOSE | re.IGNORECASE,
)
_CANONICAL = {**_OPERATORS, **_POSTFIXES, **_FUNCTIONS, "**": "^", "\u221a": "root", "sqrt": "root"}
_KINDS = {
    "operator": Kind.OPERATOR,
    "postfix": Kind.POSTFIX,
    "function": Kind.FUNCTION,
    "open": Kind.OPEN,
    "close": Kind.CLOSE,
    "equals": Kind.EQUALS,
    "join": Kind.JOIN,
    "stop": Kind.STOP,
    "word": Kind.WORD,
    "noise": Kind.WORD,
    "mark": Kind.MARK,
}


def tokenize(text: str) -> list[Token]:
    """Return the tokens of normalised text; number words become numbers."""
    tokens = [_token(match) for match in _TOKEN.finditer(text)]
    return _with_word_numbers(tokens)


def _token(match: re.Match[str]) -> Token:
    raw, start, end = match.group(), match.start(), match.end()
    if match["exact"]:
        value = Fraction(int(match["top"]), int(match["bottom"]))
        return Token(Kind.NUMBER, raw, raw, start, end, value)
    if match["number"]:
        value_read = read_numeral(match["number"] + (match["power"] or ""))
        if value_read is None:
            return Token(Kind.WORD, raw, raw, start, end)
        if match["percent"]:
            value_read /= 100
        decimals = len(match["number"].partition(".")[2]) + (2 if match["percent"] else 0)
        return Token(
            Kind.NUMBER, raw, raw, start, end, value_read, decimals, bool(match["ellipsis"])
        )
    kind = _KINDS[match.lastgroup or "mark"]
    canonical = re.sub(r"[ \t]+", " ", raw.lower())
    return Token(kind, _CANONICAL.get(canonical, canonical), raw, start, end)


def _with_word_numbers(tokens: list[Token]) -> list[Token]:
    """Replace runs such as `forty - two` or `3 million` by one number each."""
    result: list[Token] = []
    place = 0
    while place < len(tokens):
        token = tokens[place]
        if token.kind is Kind.WORD and token.text in NUMBER_WORDS:
            number, used = _word_number(tokens, place)
            if number is not None:
                result.append(number)
                place += used
                continue
        if token.kind is Kind.WORD and token.text in SCALE_WORDS and result:
            before = result[-1]
            if before.kind is Kind.NUMBER and token.start - before.end == 1:
                scaled = before.value * SCALE_WORDS[token.text]
                raw = f"{before.raw} {token.raw}"
                result[-1] = Token(Kind.NUMBER, raw, raw, before.start, token.end, scaled)
                place += 1
                continue
        result.append(token)
        place += 1
    return result


def _word_number(tokens: list[Token], place: int) -> tuple[Token | None, int]:
    run: list[tuple[str, int]] = []
    at = place
    while at < len(tokens) and len(run) < 24:
        token = tokens[at]
        hyphen = token.text == "-" and at > place and token.start == tokens[at - 1].end
        if token.text in NUMBER_WORDS or (token.text == "and" and run):
            run.append((token.text, at))
        elif not hyphen:
            break
        at += 1
    read = read_words([word for word, _ in run])
    if read is None:
        return None, 1
    value, used = read
    first, last = tokens[place], tokens[run[used - 1][1]]
    raw = " ".join(tokens[i].raw for i in range(place, run[used - 1][1] + 1))
    number = Token(Kind.NUMBER, raw.lower(), raw, first.start, last.end, Fraction(value))
    return number, run[used - 1][1] + 1 - place


_VULGAR = {
    "\u00bd": "1/2",
    "\u00bc": "1/4",
    "\u00be": "3/4",
    "\u2153": "1/3",
    "\u2154": "2/3",
    "\u215b": "1/8",
}
_SUPERSCRIPTS = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
_SIGNS = str.maketrans(
    {
        "\u2212": "-",
        "\ufe63": "-",
        "\uff0d": "-",
        "\u00d7": "*",
        "\u2715": "*",
        "\u2716": "*",
        "\u22c5": "*",
        "\u2217": "*",
        "\u00f7": "/",
        "\u2044": "/",
        "\u2215": "/",
        "\uff0b": "+",
        "\uff1d": "=",
        "\uff0e": ".",
        "\uff1f": "?",
        "\u27ea": " ",
        "\u27eb": " ",
    }
)
_LATEX = (
    (re.compile(r"\\(?:d|t)?frac\s*\{([^{}]{1,40})\}\s*\{([^{}]{1,40})\}"), r"(\1)/(\2)"),
    (re.compile(r"\\(?:times|cdot)\b"), "*"),
    (re.compile(r"\\div\b"), "/"),
    (re.compile(r"\\sqrt\s*\{([^{}]{1,40})\}"), r" sqrt(\1)"),
    (re.compile(r"\\boxed\s*\{([^{}]{0,80})\}"), r" answer: \1 "),
    (re.compile(r"\\(?:text|mathrm|mathbf)\s*\{([^{}]{0,200})\}"), r" \1 "),
    (re.compile(r"\^\s*\{([^{}]{1,40})\}"), r"^(\1)"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\(?:left|right|approx|quad|[()\[\],;!])"), " "),
    (re.compile(r"[$\u20ac\u00a3`]"), ""),
)
_BOLD = re.compile(r"(?<![\w)*])(\*\*|__|\*)(?=\S)([^*\n]{1,200}?)(?<=\S)\1(?![\w(*])")
_TIMES_X = re.compile(r"(?<=\d)(?<!\b0)[ \t]*[xX][ \t]*(?=[\d(])|(?<=\))[ \t]*[xX][ \t]*(?=[\d(])")
_DECIMAL_COMMA = re.compile(r"(?<![\d,.])(\d+),(\d{1,2})(?![\d,.])")
_DASH_MINUS = re.compile(r"(?<![\w)])[\u2013\u2014](?=\d)")


def normalize(text: str) -> str:
    """Return the text with signs, digits, LaTeX and Markdown in one plain form."""
    for sign, plain in _VULGAR.items():
        text = text.replace(sign, f" {plain}")
    text = re.sub(
        f"[{_SUPERSCRIPTS}]{{1,4}}",
        lambda found: "^" + "".join(str(_SUPERSCRIPTS.index(char)) for char in found.group()),
        text,
    )
    text = text.translate(_SIGNS)
    if not text.isascii():
        text = "".join(_ascii_digit(char) for char in text)
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    text = _BOLD.sub(r"\2", text)
    text = _TIMES_X.sub("*", text)
    text = _DASH_MINUS.sub("-", text)
    return _DECIMAL_COMMA.sub(r"\1.\2", text)


def _ascii_digit(char: str) -> str:
    return str(unicodedata.decimal(char)) if char.isdecimal() else char
