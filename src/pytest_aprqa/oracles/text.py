"""How an oracle quotes the text it judged, and how much of a huge text it reads."""

from __future__ import annotations

from pytest_aprqa.domain.text import escaped

QUOTE_LIMIT = 80
"""Characters of a judged text that a reason quotes; one line of a terminal."""

READ_LIMIT = 40_000
"""Characters of an answer read closely: ten times a 1,000-token answer; the rest is runaway."""


def quoted(text: str, limit: int = QUOTE_LIMIT) -> str:
    """Return the text in quotes, escaped, its middle left out where it is longer than `limit`."""
    if len(text) <= limit:
        return f'"{escaped(text)}"'
    head = text[: limit * 2 // 3]
    tail = text[-(limit // 3) :]
    return f'"{escaped(head)} [{len(text) - len(head) - len(tail)} more] {escaped(tail)}"'


def readable(text: str, limit: int = READ_LIMIT) -> str:
    """Return the head and the tail of a text too long to read whole, else the text."""
    if len(text) <= limit:
        return text
    return text[: limit // 2] + "\n" + text[-(limit // 2) :]


def listed(text: str) -> tuple[str, ...]:
    """Return the words of a table written as one text."""
    return tuple(text.split())
