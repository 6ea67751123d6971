"""Which characters no answer holds: controls, replacement characters, floods of private use."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from pytest_aprqa.oracles.text import quoted

PRIVATE_COUNT = 3
"""Private-use or unassigned characters that make a flood; one or two may be a logo (U+F8FF)."""

PRIVATE_SHARE = 0.02
"""Their smallest share of the answer: below it, they are icons in a long text."""

MARK_PILES = 2
"""Letters under three or more combining marks (U+0300-U+036F); Vietnamese stacks two."""

_MARK_PILE = re.compile("[\u0300-\u036f]{3,}")
_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff\u00ad\\s]*")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


def problems(text: str) -> Iterator[str]:
    """Yield what is wrong with the answer's characters, the plainest first."""
    if _INVISIBLE.fullmatch(text):
        yield "it is empty" if not text else f"it is blank: {quoted(text)}"
        return
    if control := _CONTROL.search(text):
        yield f"control character U+{ord(control.group()):04X} in {around(text, control.start())}"
    if surrogate := _SURROGATE.search(text):
        yield f"lone surrogate U+{ord(surrogate.group()):04X} in {around(text, surrogate.start())}"
    replacement = text.find("\ufffd")
    if replacement >= 0:
        yield f"replacement character U+FFFD in {around(text, replacement)}"
    piles = list(_MARK_PILE.finditer(text))
    if len(piles) >= MARK_PILES:
        yield f"letters under piles of marks in {around(text, piles[0].start())}"
    if flood := _private_flood(text):
        yield flood


def around(text: str, place: int) -> str:
    """Return the text about a place, quoted."""
    return quoted(text[max(0, place - 30) : place + 30])


def _private_flood(text: str) -> str | None:
    """Find a flood of private-use (Co) or unassigned (Cn) characters."""
    odd, first = 0, ""
    for run in _NOT_ASCII.findall(text):
        for char in run:
            if unicodedata.category(char) in ("Co", "Cn"):
                odd += 1
                first = first or char
    if odd >= PRIVATE_COUNT and odd >= PRIVATE_SHARE * len(text):
        return f"{odd} private-use or unassigned characters, the first U+{ord(first):04X}"
    return None
