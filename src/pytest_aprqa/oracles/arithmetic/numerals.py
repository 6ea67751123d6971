"""What number a numeral or a run of English number words names."""

from __future__ import annotations

from fractions import Fraction

from pytest_aprqa.oracles.text import listed

MAX_DIGITS = 400
"""Longest numeral read as a number; longer digit strings are noise (and int() gets slow)."""

_UNITS = listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen "
    "fourteen fifteen sixteen seventeen eighteen nineteen"
)
_TENS = listed("twenty thirty forty fifty sixty seventy eighty ninety")
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

SMALL = {word: value for value, word in enumerate(_UNITS)}
TENS = {word: 10 * (place + 2) for place, word in enumerate(_TENS)}
NUMBER_WORDS = frozenset({*SMALL, *TENS, *_SCALES, "hundred"})
SCALE_WORDS = {**_SCALES, "hundred": 100}


def read_numeral(text: str) -> Fraction | None:
    """Return the value of `1,000`, `3.50` or `1e3`; None for what is too long to be meant."""
    digits = text.replace(",", "").replace("_", "").replace("\u00a0", "").replace("\u202f", "")
    if len(digits) > MAX_DIGITS:
        return None
    try:
        return Fraction(digits)
    except (ValueError, OverflowError):
        return None


def read_words(words: list[str]) -> tuple[int, int] | None:
    """Return (value, words used) of the longest number that starts the list; None without one."""
    total, group, used, last = 0, 0, 0, 10**15
    place = 0
    while place < len(words):
        word = words[place]
        if word == "and" and used and group % 100 == 0 and group and _continues(words, place):
            place += 1
            continue
        if word in SMALL and _fits(SMALL[word], group):
            group += SMALL[word]
        elif word in TENS and group % 100 == 0:
            group += TENS[word]
        elif word == "hundred" and 0 < group < 10:
            group *= 100
        elif word in _SCALES and group and _SCALES[word] < last:
            last = _SCALES[word]
            total, group = total + group * last, 0
        else:
            break
        place += 1
        used = place
    return (total + group, used) if used else None


def _fits(value: int, group: int) -> bool:
    if group == 0:
        return True
    if value == 0:
        return False
    return group % 100 == 0 or (value < 10 and group % 10 == 0 and group % 100 >= 20)


def _continues(words: list[str], place: int) -> bool:
    following = words[place + 1] if place + 1 < len(words) else ""
    return following in SMALL or following in TENS
