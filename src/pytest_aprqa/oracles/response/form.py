"""How many sentences, items and words a text has, and which JSON it holds."""

from __future__ import annotations

import json
import re
from typing import Any

from pytest_aprqa.oracles.response.words import words

_ABBREVIATION = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|etc|e\.g|i\.e|approx|No|Inc|Ltd|Jr|Sr|U\.S|U\.K|[A-Z])\.$"
)
_SENTENCE_END = re.compile(
    "[.!?\u2026]+[\"'\u201d\u2019)\\]*]*(?=\\s|$)|[\u3002\uff01\uff1f]+|\n\\s*\n"
)
_MARKED_ITEM = re.compile(r"^[ \t]*(?:\d{1,3}[.):]|[-*\u2022+])[ \t]+\S", re.MULTILINE)
_INTRODUCED = re.compile(r"(?:\b(?:are|is|include|includes|were|:)\b|:)\s+", re.IGNORECASE)
_BETWEEN_ITEMS = re.compile(r"\s*(?:,\s*(?:and|or|&)\s+|;\s*|,\s+|\s+and\s+|\s+or\s+|\s+&\s+)\s*")
_FENCED_JSON = re.compile(r"```(?:json\w*)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)


def count_sentences(text: str) -> int:
    """Return the number of sentences; abbreviations and decimals end none."""
    count, start = 0, 0
    for found in _SENTENCE_END.finditer(text):
        piece = text[start : found.start() + 1]
        if _ABBREVIATION.search(piece) and found.end() < len(text.rstrip()):
            continue
        if words(piece):
            count += 1
        start = found.end()
    return count + bool(words(text[start:]))


def count_items(text: str) -> int:
    """Return the number of items listed: marked lines, else lines, else parts of an enumeration."""
    text = text.strip()
    marked = len(_MARKED_ITEM.findall(text))
    if marked:
        return marked
    lines = [line for line in text.split("\n") if words(line)]
    if len(lines) > 1 and not lines[0].rstrip().endswith(":"):
        if all(len(words(line)) <= 6 for line in lines):
            return len(lines)
    elif len(lines) > 1:
        return len(lines) - 1
    counts = [_enumerated(sentence) for sentence in re.split(r"(?<=[.!?])\s+|\n", text)]
    return max(counts, default=0)


def _enumerated(sentence: str) -> int:
    """Count the parts of the enumeration that ends a sentence: `... are red, blue and green`."""
    parts = _INTRODUCED.split(sentence)
    listed = parts[-1] if len(parts) > 1 and words(parts[-1]) else sentence
    return sum(1 for part in _BETWEEN_ITEMS.split(listed) if words(part))


def read_json(text: str) -> tuple[Any, str | None]:
    """Return (value, None), or (None, why) when the text neither is nor fences JSON."""
    fenced = _FENCED_JSON.search(text)
    source = fenced[1] if fenced else text
    try:
        return json.loads(source.strip(), parse_constant=_refuse), None
    except RecursionError:
        return None, "it is nested too deeply"
    except ValueError as problem:
        return None, str(problem)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
