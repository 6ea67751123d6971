"""Which pieces of a tokenizer or of an encoder leaked into the text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytest_aprqa.oracles.garbage.characters import around
from pytest_aprqa.oracles.text import quoted

MARKERS = 2
"""Word-boundary marks (U+0120, U+2581, `##`) that prove raw tokens; one may be Maltese."""

NAN_COUNT = 3
"""`NaN`s that make a flood when they are at least half of the words; one is an answer to 0/0."""

_SPECIAL = re.compile(
    r"<[|\uff5c][^<>|\uff5c\n]{1,40}[|\uff5c]>"
    r"|<(?:unk|pad|eos|bos|mask|sep|cls|s|/s|eot|start_of_turn|end_of_turn|unused\d{1,4}|0x[0-9A-F]{2}"
    r"|extra_id_\d{1,3}|fim_(?:prefix|middle|suffix|pad)|(?:repo|file)_name|endoftext|empty_output"
    r"|reserved_special_token_\d{1,3})>"
    r"|\[(?:PAD|UNK|CLS|SEP|MASK|BOS|EOS|INST|/INST|gMASK|sMASK)\]|<</?SYS>>"
)
_QUOTED_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]{1,200}`", re.DOTALL)
_STRUCK = re.compile(r"<s>[^<>\n]{1,200}</s>")
_BOUNDARY = re.compile(
    "(?<![\u0127\u017c])\u0120(?=[A-Za-z({\"'<])(?!unj|or\u0121|en|im)|\u2581(?=\\w)"
)
_NEWLINE_MARK = re.compile("\u010a|\u0120\u0120")
_WORD_PIECE = re.compile(r"(?<=\w )##[a-z]+")
_NAN = re.compile(r"(?<![\w.])[-+]?(?:nan|inf)(?![\w.])", re.IGNORECASE)
_WORD = re.compile(r"\w+")
_MOJIBAKE_HINT = re.compile(
    "[\u00c2-\u00f4\u0152\u0178\u0192\u0402-\u040f][\u0080-\u00bf\u2010-\u2122\u0152-\u0178\u0192\u02c6\u02dc\u0402-\u045f]"
)


def problems(text: str, question: str) -> Iterator[str]:
    """Yield the leaks found; a token that the question itself names is no leak."""
    bare = _STRUCK.sub(" ", _QUOTED_CODE.sub(" ", text))
    for special in _SPECIAL.finditer(bare):
        if special.group() not in question:
            yield f"special token {quoted(special.group())} in {around(bare, special.start())}"
            break
    if marks := _marks(bare):
        yield marks
    if nans := _nan_flood(text):
        yield nans
    if mojibake := _mojibake(text):
        yield mojibake


def _marks(text: str) -> str | None:
    newline = _NEWLINE_MARK.search(text)
    if newline:
        return f"raw byte-level token in {around(text, newline.start())}"
    for pattern in (_BOUNDARY, _WORD_PIECE):
        found = [match.start() for match in pattern.finditer(text)]
        if len(found) >= MARKERS:
            return f"raw word-boundary marks in {around(text, found[0])}"
    return None


def _nan_flood(text: str) -> str | None:
    count = sum(1 for _ in _NAN.finditer(text))
    if count < NAN_COUNT:
        return None
    words = sum(1 for _ in _WORD.finditer(text))
    return f"{count} of its {words} words are NaN or Inf" if 2 * count >= words else None


def _mojibake(text: str) -> str | None:
    """Find UTF-8 read as another encoding: ftfy repairs it, and its badness measure agrees."""
    if text.isascii():
        return None
    lines = [line for line in text.split("\n") if _MOJIBAKE_HINT.search(line)][:200]
    if not lines:
        return None
    import ftfy
    from ftfy.badness import badness, is_bad

    for line in lines:
        line = line[:2_000]
        if is_bad(line) and (ftfy.fix_encoding(line) != line or badness(line) > 1):
            hint = _MOJIBAKE_HINT.search(line)
            place = hint.start() if hint else 0
            return f"mojibake (UTF-8 read as another encoding) in {around(line, place)}"
    return None
