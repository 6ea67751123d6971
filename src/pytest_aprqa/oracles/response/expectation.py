"""What kind of answer a question's first word expects, and whether the answer has it."""

from __future__ import annotations

import re

from pytest_aprqa.oracles.response.words import content_stems, overlap, words

LONG = 25
"""Words from which an answer must share a content word with its question; `Paris` need not."""

_HOW_MANY = re.compile(r"^\s*(?:how many|how much|how old|how long|how far|how tall)\b", re.I)
_WHEN = re.compile(r"^\s*(?:when|(?:in )?(?:what|which) year)\b", re.I)
_WHO = re.compile(r"^\s*(?:who|whose)\b(?!\s+are\s+you)", re.I)
_WHY = re.compile(r"^\s*(?:why|explain|describe|how (?:do|does|did|can|would))\b", re.I)
_NUMBER = re.compile(
    r"\d|\b(?:no|none|zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen"
    r"|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy"
    r"|eighty|ninety|hundred|thousand|million|billion|dozen|several|many|few|half|never|infinite"
    r"|unlimited)\b",
    re.I,
)
_TIME = re.compile(
    r"\d|\b(?:january|february|march|april|may|june|july|august|september|october|november|december"
    r"|monday|tuesday|wednesday|thursday|friday|saturday|sunday|century|morning|noon|afternoon"
    r"|evening|night|midnight|yesterday|today|tomorrow|spring|summer|autumn|fall|winter|year|day"
    r"|week|month|when|after|before|during|while|never|always|christmas|easter|ago|soon|now)s?\b",
    re.I,
)
_NAME = re.compile(
    r"[A-Z\u00c0-\u00de][\w'\u2019.-]+|[^\x00-\u024f]|\b(?:nobody|no one|people|someone|everyone)\b"
)


def unmet(question: str, answer: str) -> str | None:
    """Return how the answer fails what its question expects; None when it meets it."""
    if _HOW_MANY.match(question) and not _NUMBER.search(answer):
        return "the question asks for a quantity, and the answer names none"
    if _WHEN.match(question) and not _TIME.search(answer):
        return "the question asks for a time, and the answer names none"
    if _WHO.match(question) and not _NAME.search(answer):
        return "the question asks for a person, and the answer names none"
    if _WHY.match(question) and len(words(answer)) < 3:
        return "the question asks for an explanation, and the answer has under three words"
    if _echoes(question, answer):
        return "it only repeats the question"
    if len(words(answer)) >= LONG and len(content_stems(question)) >= 2:
        share = overlap(question, answer)
        if share == 0:
            return "it shares no content word with the question"
    return None


def _echoes(question: str, answer: str) -> bool:
    asked, said = words(question), words(answer)
    return bool(said) and (said == asked or (len(said) >= 3 and _within(said, asked)))


def _within(said: list[str], asked: list[str]) -> bool:
    return any(asked[at : at + len(said)] == said for at in range(len(asked) - len(said) + 1))
