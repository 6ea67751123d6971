"""Which words carry a text's subject, and which are kin to each other."""

from __future__ import annotations

import re

from pytest_aprqa.oracles.text import listed

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_STOP = frozenset(
    listed(
        "a about after all also an and any are as at be because been but by can could "
        "describe did do does each explain few find for from get give had has have he her his "
        "how i if in into is it its just let like list make many may me more most much my "
        "name no not now of on one only or other our out over please provide say she should "
        "show so some such tell than that the their them then there these they this those to "
        "two three four five six seven eight nine ten up us use using very was we were what "
        "when where which who whom whose why will with word words would write you your yes "
        "exactly sentence sentences answer short brief briefly between s t mention respond "
        "reply return give state first item items example examples"
    )
)
_ENDINGS = (
    "ization", "isation", "fulness", "iveness", "ations", "ation", "ively", "ments", "ment", "ness",
    "ings", "ing", "ally", "ies", "ied", "ers", "ive", "est", "ion", "ous", "ed", "er", "es", "ly",
    "al", "or", "y", "s", "e",
)  # fmt: skip


def words(text: str) -> list[str]:
    """Return the words of the text, in lower case."""
    return [found.group().casefold() for found in _WORD.finditer(text)]


def stem(word: str) -> str:
    """Return the word less its English endings, at least three letters."""
    word = word.removesuffix("'s").removesuffix("\u2019s")
    for _ in range(2):
        for ending in _ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) >= 3:
                word = word[: -len(ending)]
                break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word


def content_stems(text: str) -> frozenset[str]:
    """Return the stems of the words that carry the subject; digits count, joining words do not."""
    return frozenset(stem(word) for word in words(text) if word not in _STOP and not word.isdigit())


def kin(left: str, right: str) -> bool:
    """Tell stems of one family: `recurs` and `recur` share at least four leading letters."""
    if left == right:
        return True
    shorter, longer = sorted((left, right), key=len)
    return len(shorter) >= 4 and longer.startswith(shorter)


def overlap(question: str, answer: str) -> float | None:
    """Return the share of the question's content words met in the answer; None without any."""
    asked = content_stems(question)
    if not asked:
        return None
    said = content_stems(answer)
    met = sum(stem_ in said or any(kin(stem_, other) for other in said) for stem_ in asked)
    return met / len(asked)
