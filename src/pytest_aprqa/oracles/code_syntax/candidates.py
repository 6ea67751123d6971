"""Which texts an answer offers as code, and how one that was cut may be completed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_aprqa.domain.oracle_spec import Language
from pytest_aprqa.oracles.code_syntax.parsers import CODE_LIMIT, Parse, parse

REGION_TRIES = 30
"""Most stretches of an unfenced answer tried as code."""

DROPPED_LINES = 8
"""Most lines of an unfinished statement dropped at the end of a cut answer."""

REPARSED = 24_000
"""Characters parsed again in the search for the complete part; long answers get fewer tries."""

_FIRST_LINE = re.compile(
    r"\s*(?:(?:async\s+)?def |class |import |from \S+ import|@|#include|package |func |fn |pub "
    r"|use "
    r"|impl|struct |enum |trait |(?:export |async )*function\b|const |let |var |public |private "
    r"|static |int |void |char |double |float |bool |template|using |namespace |interface |type "
    r"|SELECT|INSERT|CREATE|UPDATE|DELETE|WITH |ALTER|DROP|#!|for\b|while\b|if\b|echo |print"
    r"|[\w.\[\]]+\s*(?::=|[-+*/]?=)|[\w.]+\(|\w+\s+-{1,2}\w)",
    re.IGNORECASE,
)
_CODE_SIGNS = re.compile(r"[=(){};\[\]<>]")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text to parse; `given` of its first characters are the question's, not the answer's."""

    text: str
    given: int = 0
    may_be_cut: bool = False


def completions(question: str, answer: str) -> Iterator[Candidate]:
    """Yield the question continued by the answer, in the ways a model continues a line."""
    if not answer.strip():
        return
    begun = question.rstrip("\n")
    joints = ("", "\n", "\n    ") if len(answer) < REPARSED // 4 else ("", "\n")
    for joint in joints:
        text = begun + joint
        yield Candidate(text + answer, len(text), may_be_cut=True)
    restated = answer.find(begun.strip())
    if restated >= 0 and all(_is_prose(line) for line in answer[:restated].split("\n")):
        for region in regions(answer[restated:]):
            yield Candidate(region.text, len(begun.strip()), may_be_cut=region.may_be_cut)


def regions(answer: str) -> Iterator[Candidate]:
    """Yield the whole answer, then its stretches that begin like code, prose cut off both ends."""
    text = answer[:CODE_LIMIT]
    yield Candidate(text, may_be_cut=True)
    lines = text.split("\n")
    tries = 0
    for start in _starts(lines):
        for end in _ends(lines, start):
            tries += 1
            if tries > REGION_TRIES:
                return
            yield Candidate("\n".join(lines[start:end]), may_be_cut=end == len(lines))


def _starts(lines: list[str]) -> Iterator[int]:
    """Yield the lines that code may begin at: only prose stands before them."""
    for place, line in enumerate(lines):
        if _FIRST_LINE.match(line):
            yield place
        if not _is_prose(line):
            return


def _ends(lines: list[str], start: int) -> Iterator[int]:
    """Yield the places that code may end before: only prose stands from there on."""
    yield len(lines)
    for place in range(len(lines) - 1, start, -1):
        if not _is_prose(lines[place]):
            return
        yield place


def _is_prose(line: str) -> bool:
    """Tell a line that a person reads: not indented, words, and no code's punctuation."""
    bare = line.strip()
    if not bare:
        return True
    if line[0] in " \t" and bare[0] not in "-*\u2022":
        return False
    if len(bare.split()) < 3:
        return bare[-1] in ".:!?" and bare[0].isupper() and "(" not in bare
    return bare[-1] in ".:!?" or not _CODE_SIGNS.search(bare)


def judge_candidate(language: Language, candidate: Candidate) -> Parse:
    """Return the parse of a candidate, of its complete part if it was cut in mid-statement."""
    whole = _beyond(parse(language, candidate.text), candidate)
    if whole.accepted or not candidate.may_be_cut or not whole.error or not whole.at_end:
        return whole
    for text in _complete_parts(candidate.text, whole.error_line):
        if len(text.rstrip()) <= candidate.given:
            break
        part = _beyond(parse(language, text), candidate)
        if part.accepted:
            return part
    return whole


def _beyond(parsed: Parse, candidate: Candidate) -> Parse:
    """Keep the constructs that the answer itself added."""
    if parsed.error:
        return parsed
    own = tuple(place for place in parsed.constructs if place >= candidate.given)
    begun = candidate.text[: candidate.given].rstrip()
    unfinished = bool(begun) and begun[-1] not in ":{;}"
    tail = candidate.text[candidate.given :].strip()
    if not own and parsed.constructs and unfinished and not tail.startswith(("#", "//", '"')):
        own = parsed.constructs[-1:]  # the answer finishes the question's own statement
    return Parse(constructs=own)


def _complete_parts(text: str, error_line: int) -> Iterator[str]:
    """Yield the text less its unfinished last statement, the blocks still open closed."""
    lines = text.rstrip().split("\n")
    yield text.rstrip() + _closers(text)
    tries = max(1, min(DROPPED_LINES, len(lines) - 1, REPARSED // max(len(text), 1)))
    for dropped in range(1, min(tries, len(lines) - 1) + 1):
        kept = lines[: len(lines) - dropped]
        first = lines[len(lines) - dropped]
        depth = len(first) - len(first.lstrip())
        deeper = all(
            not line.strip() or len(line) - len(line.lstrip()) > depth
            for line in lines[len(lines) - dropped + 1 :]
        )
        if deeper:
            part = "\n".join(kept)
            yield part + _closers(part)


_PAIRS = {"{": "}"}
_TEXT_OR_COMMENT = re.compile(
    r"//[^\n]*|/\*.*?(?:\*/|\Z)|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n]){0,2}'", re.DOTALL
)


def _closers(text: str) -> str:
    """Return the braces that the text leaves open; other brackets open no block."""
    depth = 0
    for char in _TEXT_OR_COMMENT.sub("", text):
        depth += (char == "{") - (char == "}")
    return "\n" + "}" * depth if 0 < depth <= 20 else ""
