"""Where the text repeats itself as only a stuck model does.

A loop is one unit repeated back to back, or one line or sentence that keeps coming back. Copies
beyond the first must fill more than `max_repetition_ratio` of the answer. How many copies a unit
needs depends on what people repeat on purpose: refrains come three times (`Happy birthday to
you`), laughter and stress a few times, table rows and zero vectors often.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from pytest_aprqa.oracles.text import listed, quoted

WORD_COPIES = 6
"""Copies in a row of one word: `ha ha ha` and `very very very` stay below."""

PHRASE_COPIES = 4
"""Copies of a unit of several words, or of a line: a refrain comes three times."""

LONG_COPIES = 3
"""Copies of a unit of at least `LONG_UNIT` characters."""

LONG_UNIT = 80
"""A unit of this length is a sentence or more; nobody writes it three times."""

NUMBER_COPIES = 24
"""Copies of a unit without letters: rows of a matrix, repeating decimals."""

SUNG = frozenset(listed("ha he hi ho na la no hey yeah oh blah bla very really doo di"))
"""Words that people repeat for fun or stress; they need `SUNG_COPIES`."""

SUNG_COPIES = 12
"""Copies in a row of a sung word: `na na na na na na na na` has eight."""

LOOP_LENGTH = 24
"""Fewest characters a loop found by characters covers: `hahahaha` stays below."""

WINDOW = 12_000
"""Characters at the end of the answer searched for a loop that runs into its end."""

WORDS = 3_000
"""Words searched at each end of the answer for a loop anywhere."""

PHRASE_WORDS = 40
"""Longest unit, in words, searched anywhere."""

_WORD = re.compile(
    "[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]|[^\\W_]+(?:['\u2019][^\\W_]+)*"
)
_SENTENCE_END = re.compile("(?<=[.!?])\\s+|(?<=[\u3002\uff01\uff1f])|\n")
_ITEM_MARK = re.compile(r"^\s*(?:\d{1,4}[.):]|[-*\u2022>])\s*")


def problems(text: str, max_ratio: float) -> Iterator[str]:
    """Yield the loops found."""
    text = text.strip()
    for search in (_tail_loop, _word_loop, _returning_line):
        if found := search(text, max_ratio):
            yield found


def _copies_needed(unit: str, words: int) -> int:
    if unit in SUNG:
        return SUNG_COPIES
    if not any(char.isalnum() for char in unit):
        return PHRASE_COPIES
    if not any(char.isalpha() for char in unit):
        return NUMBER_COPIES
    if len(unit) >= LONG_UNIT:
        return LONG_COPIES
    return PHRASE_COPIES if words > 1 else WORD_COPIES


def _tail_loop(text: str, max_ratio: float) -> str | None:
    """Find the period of the end of the text by the prefix function of its reverse."""
    window = text[-WINDOW:]
    backward = window[::-1]
    border = [0] * len(backward)
    length, best, best_gain = 0, 0, 0
    for place in range(1, len(backward)):
        char = backward[place]
        while length and backward[length] != char:
            length = border[length - 1]
        if backward[length] == char:
            length += 1
        border[place] = length
        if length > best_gain and place + 1 >= LONG_COPIES * (place + 1 - length):
            best_gain, best = length, place + 1
    if not best_gain:
        return None
    period = best - best_gain
    unit = window[len(window) - period :]
    copies = best // period
    words = len(unit.split())
    enough = copies >= _copies_needed(unit, max(words, 2 if len(unit.strip()) > 1 else 1))
    share = best_gain / len(window)
    if not enough or best < LOOP_LENGTH or share <= max_ratio:
        return None
    if not any(char.isalnum() for char in unit) and share < 0.9:
        return None  # a rule or a table frame that ends the text
    return f"it ends in a loop: {quoted(unit.strip(), 60)} {copies} times ({share:.0%} of it)"


def _word_loop(text: str, max_ratio: float) -> str | None:
    """Find a unit of up to `PHRASE_WORDS` words repeated back to back anywhere."""
    matches = list(_WORD.finditer(text))
    if len(matches) > 2 * WORDS:
        matches = matches[:WORDS] + matches[-WORDS:]
    words = [match.group().casefold() for match in matches]
    if len(set(words)) > 0.9 * len(words):
        return None
    for period in range(1, min(PHRASE_WORDS, len(words) // 3) + 1):
        end, run = _longest_run(words, period)
        copies = run // period + 1
        unit = words[end - period + 1 : end + 1]
        if period > 1 and len(set(unit)) == 1:
            continue  # one word over and over: the first period judged it
        needed = _copies_needed(" ".join(unit), period)
        if period == 1 and len(unit[0]) == 1:
            needed = max(needed, 12)  # a syllable in a script without spaces, or a letter
        if copies < needed:
            continue
        start = matches[end - run + 1].start()
        share = (matches[end].end() - start) / len(text)
        if share > max_ratio:
            shown = quoted(" ".join(unit), 60)
            return f"{shown} stands {copies} times in a row ({share:.0%} of it)"
    return None


def _longest_run(words: Sequence[str], period: int) -> tuple[int, int]:
    """Return (last place, length) of the longest run of words equal to those a period before."""
    best, best_end, run = 0, 0, 0
    for place in range(period, len(words)):
        run = run + 1 if words[place] == words[place - period] else 0
        if run > best:
            best, best_end = run, place
    return best_end, best


def _returning_line(text: str, max_ratio: float) -> str | None:
    """Find a line or sentence that keeps coming back, whatever stands between its copies."""
    for pieces in (text.split("\n"), _SENTENCE_END.split(text)):
        counted = Counter(
            bare for piece in pieces if len(bare := _ITEM_MARK.sub("", piece).strip()) >= 12
        )
        if not counted:
            continue
        for piece, copies in counted.most_common(3):
            share = (copies - 1) * len(piece) / len(text)
            if not any(char.isalpha() for char in piece) or share <= max_ratio:
                continue
            if copies >= _copies_needed(piece, 2):
                return f"{quoted(piece, 60)} comes {copies} times ({share:.0%} of it)"
    return None
