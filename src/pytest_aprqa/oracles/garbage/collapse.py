"""Where the text collapsed: to one character, to too few different ones, or to one word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from pytest_aprqa.oracles.text import quoted

WHOLE_RUN = 6
"""Length from which a whole answer of one character is no answer: `aaaaaa`, `!!!!!!`."""

LETTER_RUN = 12
"""Longest run of one letter; people stretch `soooooo`, rarely beyond ten."""

DIGIT_RUN = 40
"""Longest run of one digit; 1/3 shown to float precision has 16."""

SYMBOL_RUN = 24
"""Longest run of one other symbol; rules and table frames (`-=_.*#~|+`) have no limit."""

FEW_LENGTH = 120
"""Fewest letters and symbols an answer must have before `min_unique_chars` is asked of it."""

WORDS = 16
"""Fewest words before one may not be most of them; the line of a song has a dozen."""

WORD_SHARE = 0.5
"""Largest share of one word; "the" makes 6 % of English, a chant or a refrain about a third."""

_RULES = frozenset("-=_.*#~|+\u2500\u2501\u2550\u2026 ")
_RUN = re.compile(r"(\S)\1{5,}")
_SPACE = re.compile(r"\s+")
_WORD = re.compile(r"[^\W\d_]+")
_NUMERIC = re.compile(r"[\d\s.,;:()\[\]{}|+=e-]*")


def problems(text: str, min_unique_chars: int) -> Iterator[str]:
    """Yield the collapses found."""
    dense = _SPACE.sub("", text)
    if len(dense) >= WHOLE_RUN and len(set(dense)) == 1 and not _short_number(dense):
        yield f"it is one character {len(dense)} times: {quoted(dense)}"
        return
    for run in _RUN.finditer(text):
        char, length = run.group(1), len(run.group())
        limit = LETTER_RUN if char.isalpha() else DIGIT_RUN if char.isdigit() else SYMBOL_RUN
        if length >= limit and char not in _RULES:
            yield f"{quoted(char)} stands {length} times in a row"
            break
    unique = len(set(dense))
    if len(dense) >= FEW_LENGTH and unique < min_unique_chars and not _NUMERIC.fullmatch(text):
        yield f"{len(dense)} characters but only {unique} different ones: {quoted(dense)}"
    words = [word.lower() for word in _WORD.findall(text)]
    if len(words) >= WORDS:
        word, times = Counter(words).most_common(1)[0]
        if times > WORD_SHARE * len(words):
            yield f"{times} of its {len(words)} words are {quoted(word)}"


def _short_number(dense: str) -> bool:
    """Tell 11111111, which is a number someone can ask for."""
    return dense.isdigit() and len(dense) <= 16
