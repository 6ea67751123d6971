"""Whether the characters follow each other as in text, or as in vocabulary pieces drawn at random.

`ky amet++Xck::v INTEGERHelloIM my weitfuncIMA return1ria` is made of the pieces of healthy words;
what gives it away is where they meet. Every trigram of the folded text has a weight, the log odds
that it stands in such a soup and not in text or code; each counts once, so that a list of like
lines weighs no more than one of them. The weights in `trigrams.bin` were fitted by
`tools/build_trigram_table.py`, which names the corpora; docs/oracles-garbage.md has the rates
on held-out text. Letters of other scripts, and chunks that look like a hash, a key or base64,
weigh nothing.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from functools import cache
from importlib.resources import files

from pytest_aprqa.oracles.text import quoted

ALPHABET = "?\n \t0\x01\x02abcdefghijklmnopqrstuvwxyz!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""What a folded text is made of; the place is the code, and 0 is any character not listed."""

STEP = 0.35
"""Log odds of one unit of the table, whose entries are four bits: -7 to 7 units, 8 for none."""

OFFSET = -1.32
"""Log odds before the first trigram, as fitted."""

LIMIT = 4.0
"""Log odds from which a window is soup; 0.3 % of held-out healthy excerpts have more."""

FEWEST = 16
"""Different known trigrams that a text must have to be judged: below, it is a word or two."""

WINDOW = 400
"""Characters judged at a time, the most that the weights were fitted to."""

_TABLE = "trigrams.bin"
_SIZE = len(ALPHABET)
_CODES = {ord(char): code for code, char in enumerate(ALPHABET) if code}
_PLAIN = str.maketrans(
    {
        "\u00df": "ss", "\u00f8": "o", "\u00e6": "ae", "\u0111": "d", "\u0142": "l", "\u0131": "i",
        "\u00fe": "th", "\u00f0": "d", "\u0153": "oe", "\u00d8": "O", "\u0110": "D", "\u0141": "L",
        "\u00c6": "Ae", "\u0152": "Oe", "\u0259": "e", "\u2018": "'", "\u2019": "'",
        "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u00ab": '"', "\u00bb": '"',
        "\u2013": "-", "\u2014": "-", "\u2026": "...", "\u00a0": " ",
    }
)  # fmt: skip
_OPAQUE = re.compile(r"[A-Za-z0-9+/_=-]{16,}")
_SWITCH = re.compile(r"[A-Za-z](?=\d)|\d(?=[A-Za-z])")
_SWITCHES = 4
"""Changes between letter and digit that tell a hash or a key from a long name."""
_LETTERED = re.compile("[a-z]{3,}")
_LETTERED_SHARE = 0.25
"""Least share of lower-case words: formulas and reactions have trigrams of their own."""
_NAMES = re.compile(r"\s*[A-Za-z]+(?:\s+[A-Za-z]+){0,6}\s*")
"""Up to seven bare words: names of things are put together as their makers like."""
_MARKS = re.compile("[\x00-\x06]")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_RUN_END = re.compile(r"(?<=[A-Z]{2})(?=[a-z])")
_TRAILING = re.compile(r"[ \t]+\n")
_GAP = re.compile(r"[ \t\r\f\v]{2,}|\t")
_BLANK_LINES = re.compile(r"\n{3,}")
_DIGIT = re.compile(r"\d")
_RUN = re.compile(r"([^A-Za-z])\1{3,}")


def problem(text: str) -> str | None:
    """Return what is wrong if at least half of the text's windows are soup, else None."""
    text = text.strip()
    count = max(1, round(len(text) / WINDOW))
    size = -(-len(text) // count) if text else 1
    windows = [text[start : start + size] for start in range(0, len(text), size)]
    soups = [window for window in windows if evidence(window) > LIMIT]
    if not soups or 2 * len(soups) < len(windows):
        return None
    weight = evidence(soups[0])
    return f"its letters follow each other as in random pieces ({weight:.1f}): {quoted(soups[0])}"


def evidence(text: str) -> float:
    """Return the log odds that a text is soup; 0 where too little is known of it."""
    lettered = sum(len(word) for word in _LETTERED.findall(text))
    if lettered < _LETTERED_SHARE * len(text) or _NAMES.fullmatch(text):
        return 0.0
    known = places(text)
    if len(known) < FEWEST:
        return 0.0
    table = _weights()
    return OFFSET + STEP * (sum(table[place] for place in known) - 8 * len(known))


def places(text: str) -> set[int]:
    """Return where the table has the trigrams of a text."""
    codes = folded(text).translate(_TO_CODES).encode("latin-1")
    return {
        (first * _SIZE + second) * _SIZE + third
        for first, second, third in zip(codes, codes[1:], codes[2:], strict=False)
        if first and second and third
    }


def folded(text: str) -> str:
    """Return the text in the letters of `ALPHABET`, and in others where it has others.

    Accents and case are dropped (U+0001 stands where lower case turns upper inside a word, U+0002
    where a run of capitals ends in lower case), digits are 0, and runs are cut short.
    """
    text = _OPAQUE.sub(_without_keys, _MARKS.sub(" ", "\n" + text))
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text.translate(_PLAIN))
        text = "".join(char for char in decomposed if not unicodedata.combining(char))
    text = _RUN_END.sub("\x02", _CAMEL.sub("\x01", text))
    text = _BLANK_LINES.sub("\n\n", _GAP.sub("\t", _TRAILING.sub("\n", text)))
    return _RUN.sub(r"\1\1\1", _DIGIT.sub("0", text)).lower()


def _without_keys(chunk: re.Match[str]) -> str:
    return "\0" if len(_SWITCH.findall(chunk.group())) >= _SWITCHES else chunk.group()


class _ToCodes(dict[int, str]):
    """A translation to codes; what is not listed has 0."""

    def __missing__(self, key: int) -> str:
        return chr(_CODES.get(key, 0))


_TO_CODES = _ToCodes()


@cache
def _weights() -> bytes:
    """Load the table once: one byte a trigram, 8 for no weight."""
    packed = zlib.decompress(files(__package__).joinpath(_TABLE).read_bytes())
    return bytes(unit for pair in packed for unit in (pair >> 4, pair & 15))
