"""Text from outside made safe to show: no control character reaches a terminal or a report."""

from __future__ import annotations

_SHORT_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def escaped(text: str, *, keep: str = "") -> str:
    """The text with every character that a terminal would not print as an escape, but `keep`."""
    return "".join(char if char.isprintable() or char in keep else _escape(char) for char in text)


def one_line(text: object, *, limit: int = 400) -> str:
    """The text with every run of white space as one blank, escaped, cut to `limit` characters."""
    flat = escaped(" ".join(str(text).split()))
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def _escape(char: str) -> str:
    code = ord(char)
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
