"""Whether the words are drawn from a vocabulary at random, as an untrained model draws them.

Each rule but the last looks at what sits outside code fences, and each needs a pattern that text,
code, lists and tables do not show: scripts that alternate with nothing between them; several kinds
of broken word at once; a stretch of words without one that joins words; symbols of every sort
without words; characters that follow each other as pieces of words do (`trigrams`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from pytest_aprqa.oracles.garbage import trigrams
from pytest_aprqa.oracles.garbage.function_words import FUNCTION_WORDS
from pytest_aprqa.oracles.text import quoted

SCRIPT_CHANGES = 6
"""Changes of script with no punctuation between them, over three scripts or more."""

GLUED_CHANGES = 3
"""Changes of script inside words; a loan word in another script makes one or two."""

BROKEN_WORDS = 3
"""Broken words that make a soup when they are also `BROKEN_SHARE` of the words."""

BROKEN_SHARE = 0.3
"""A brand, an identifier or an acronym breaks a word's form too, but not three words of ten."""

UNJOINED_WORDS = 16
"""Words in a row, of uneven case, that need one function word; a title has fewer."""

FUNCTION_SHARE = 0.05
"""Smallest share of function words; English has 40 %, headlines 10 %."""

STRETCH = 4.0
"""Words from one punctuation mark to the next; lists and code have one to three."""

SYMBOL_VARIETY = 12
"""Different ASCII symbols in a text with hardly a letter; an ASCII drawing has under ten."""

UNSPACED_LETTERS = 80
"""Longest word of an alphabet that has spaces; the longest place name has 58 letters."""

_FENCE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]{1,200}`|https?://\S+", re.DOTALL)
_SCRIPTS = (
    ("Latin", "A-Za-z\u00aa-\u024f\u1e00-\u1eff"),
    ("Greek", "\u0370-\u03ff\u1f00-\u1fff"),
    ("Cyrillic", "\u0400-\u052f"),
    ("Armenian", "\u0530-\u058f"),
    ("Hebrew", "\u0590-\u05ff"),
    ("Arabic", "\u0600-\u06ff\u0750-\u077f"),
    ("Devanagari", "\u0900-\u097f"),
    ("Bengali", "\u0980-\u09ff"),
    ("Tamil", "\u0b80-\u0bff"),
    ("Telugu", "\u0c00-\u0c7f"),
    ("Thai", "\u0e00-\u0e7f"),
    ("Georgian", "\u10a0-\u10ff"),
    ("Hangul", "\u1100-\u11ff\uac00-\ud7af"),
    ("Han", "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uff66-\uff9f"),
)
_RUN = re.compile("|".join(f"(?P<{name}>[{ranges}]+)" for name, ranges in _SCRIPTS))
_LATIN_WORD = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]+(?:['\u2019][A-Za-z]+)*")
_CHUNK = re.compile(r"\S+")
_SEGMENT = re.compile(r"[^\w\s'\u2019-]+|\n|_|\b\d+\b")
_CAMEL = re.compile("[a-z][A-Z]")
_EMPTY_QUOTES = re.compile("\u2018\u2019|\u201c\u201d|\u00ab\u00bb|''\"")
_CLOSERS = re.compile(r"[)\]};,(]{2,}")
_CONSONANTS = re.compile("[bcdfghjklmnpqrstvwxzBCDFGHJKLMNPQRSTVWXZ]{6,}")
_VOWELS = re.compile("[aeiouyAEIOUY\u00c0-\u024f\u1e00-\u1eff]")
_SYMBOL = re.compile(r"[!-/:-@\[-`{-~]")
_LONG_WORD = re.compile(f"[^\\W\\d_]{{{UNSPACED_LETTERS + 1},}}")
_UNSPACED = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u9fff\uac00-\ud7af]")


def problems(text: str, question: str) -> Iterator[str]:
    """Yield the signs of soup found."""
    prose = _FENCE.sub("\n", text)
    for rule in (_script_soup, _symbol_soup, _unspaced):
        if found := rule(prose):
            yield found
    asked = frozenset(_CHUNK.findall(question))
    for found in (_broken_words(prose, asked), _unjoined_words(prose), trigrams.problem(text)):
        if found:
            yield found


def _script_soup(text: str) -> str | None:
    """Find scripts that change without punctuation between them."""
    if text.isascii():
        return None
    runs = [(found.lastgroup or "", found.start(), found.end()) for found in _RUN.finditer(text)]
    scripts = {script for script, _, _ in runs}
    if len(scripts) < 2:
        return None
    spaced = glued = 0
    for (left, _, end), (right, start, _) in pairwise(runs):
        if left == right:
            continue
        between = text[end:start]
        spaced += between in ("", " ")
        glued += between == "" and not _usual_mix(left, right, scripts)
    if len(scripts) >= 3 and spaced >= SCRIPT_CHANGES:
        return f"{len(scripts)} scripts change {spaced} times mid-sentence: {quoted(text.strip())}"
    if glued >= GLUED_CHANGES:
        return f"scripts change {glued} times inside words: {quoted(text.strip())}"
    if speckles := _speckles(text, runs):
        return f"single Han characters stuck into {speckles} words: {quoted(text.strip())}"
    return None


def _usual_mix(left: str, right: str, scripts: set[str]) -> bool:
    """Tell pairs written without space: Chinese or Korean around Latin; units after Greek."""
    pair = {left, right}
    if pair == {"Latin", "Greek"}:
        return True
    return bool(pair & {"Han", "Hangul", "Thai"}) and scripts <= {
        "Latin",
        "Han",
        "Hangul",
        "Thai",
        "Greek",
    }


def _speckles(text: str, runs: list[tuple[str, int, int]]) -> int:
    """Count Latin words glued to a short Han run in a text that is mostly Latin."""
    latin = sum(end - start for script, start, end in runs if script == "Latin")
    han = sum(end - start for script, start, end in runs if script == "Han")
    if not han or latin < 5 * han:
        return 0
    count = 0
    for (left, _, end), (right, start, _) in pairwise(runs):
        count += {left, right} == {"Latin", "Han"} and end == start
    return count if count >= GLUED_CHANGES else 0


def _symbol_soup(text: str) -> str | None:
    dense = "".join(text.split())
    symbols = _SYMBOL.findall(dense)
    if len(dense) < 24 or len(symbols) < 0.7 * len(dense):
        return None
    variety = len(set(symbols))
    if variety < SYMBOL_VARIETY:
        return None
    return f"{len(symbols)} of its {len(dense)} characters are symbols of {variety} sorts"


def _unspaced(text: str) -> str | None:
    for found in _LONG_WORD.finditer(text):
        word = found.group()
        if not word.isupper() and not _UNSPACED.search(word) and len(set(word.lower())) > 6:
            return f"a word of {len(word)} letters: {quoted(word, 60)}"
    return None


def _broken_words(text: str, asked: frozenset[str]) -> str | None:
    """Find several kinds of broken word at once, or many words that cannot be spoken."""
    chunks = [chunk for chunk in _CHUNK.findall(text)[:4_000] if chunk not in asked]
    if len(chunks) < 5:
        return None
    kinds: set[str] = set()
    broken: list[str] = []
    unspeakable = 0
    latin_text = _mostly_latin(text)
    for chunk in chunks:
        kind = _breakage(chunk, latin_text=latin_text)
        if kind:
            kinds.add(kind)
            broken.append(chunk)
            unspeakable += kind == "unspeakable"
    if not {"foreign", "quotes"} & kinds:
        kinds.discard("closers")  # code closes what it opened
    share = max(BROKEN_SHARE * len(chunks), BROKEN_WORDS)
    if (len(broken) >= share and len(kinds) >= 2) or unspeakable >= max(share, 4):
        return f"{len(broken)} of its {len(chunks)} words are broken: {quoted(' '.join(broken))}"
    return None


def _mostly_latin(text: str) -> bool:
    letters = sum(1 for char in text if char.isalpha())
    latin = sum(len(word) for word in _LATIN_WORD.findall(text))
    return latin >= 0.7 * max(letters, 1)


def _breakage(chunk: str, *, latin_text: bool) -> str | None:
    """Return how a chunk breaks the form of a word; None for words, numbers and code."""
    if latin_text and _RUN.search(chunk) and not _LATIN_WORD.search(chunk):
        return "foreign"
    if _CLOSERS.fullmatch(chunk):
        return "closers"
    if _EMPTY_QUOTES.search(chunk):
        return "quotes"
    word = chunk.strip(".,;:!?\"'()[]{}*\u2018\u2019\u201c\u201d")
    if not _LATIN_WORD.fullmatch(word):
        return None
    if word.isupper():
        return None
    if _CAMEL.search(word):
        return "camel"
    if _CONSONANTS.search(word) or (len(word) >= 4 and not _VOWELS.search(word)):
        return "unspeakable"
    return None


def _unjoined_words(text: str) -> str | None:
    """Find a long stretch of Latin words of uneven case with no function word among them."""
    stretches = [_LATIN_WORD.findall(segment) for segment in _SEGMENT.split(text)]
    stretches = [words for words in stretches if words]
    words = [word for stretch in stretches for word in stretch]
    if len(words) < UNJOINED_WORDS or len(words) < STRETCH * len(stretches):
        return None
    joined = sum(word.lower() in FUNCTION_WORDS for word in words)
    capital = sum(word[0].isupper() for word in words) / len(words)
    if joined >= FUNCTION_SHARE * len(words) or not 0.1 <= capital <= 0.9:
        return None
    if not _mostly_latin(text):
        return None
    return f"{joined} of its {len(words)} words join others: {quoted(text.strip())}"
