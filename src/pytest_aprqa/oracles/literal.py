"""Oracles that compare the answer with given texts: exact, contains, one_of."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_aprqa.domain.oracle_spec import ContainsSpec, ExactSpec, OneOfSpec
from pytest_aprqa.domain.verdict import Verdict
from pytest_aprqa.oracles.text import quoted
from pytest_aprqa.oracles.verdicts import corroborated, falsified, inapplicable

_END_PUNCTUATION = " \t\r\n.!?,;:\"'`*\u201c\u201d\u2018\u2019\u3002\uff01"


@dataclass(frozen=True, slots=True)
class ExactOracle:
    """Judges an answer that must be one text, surrounding space aside."""

    spec: ExactSpec
    name: str = field(default="exact", init=False)

    def judge(self, question: str, answer: str) -> Verdict:
        """Rule on the answer."""
        found, wanted = answer.strip(), self.spec.expected.strip()
        if _folded(found, self.spec.ignore_case) == _folded(wanted, self.spec.ignore_case):
            return corroborated(self.name, f"it is {quoted(wanted)}")
        return falsified(self.name, f"expected {quoted(wanted)}, found {quoted(found)}")


@dataclass(frozen=True, slots=True)
class ContainsOracle:
    """Judges an answer that must hold every one of some texts."""

    spec: ContainsSpec
    name: str = field(default="contains", init=False)

    def judge(self, question: str, answer: str) -> Verdict:
        """Rule on the answer."""
        problem = why_contains_inapplicable(self.spec)
        if problem:
            return inapplicable(self.name, problem)
        found = _folded(answer, self.spec.ignore_case)
        wanted = _texts(self.spec)
        missing = [text for text in wanted if _folded(text, self.spec.ignore_case) not in found]
        if missing:
            texts = ", ".join(quoted(text) for text in missing[:5])
            return falsified(self.name, f"{texts} not in {quoted(answer.strip())}")
        texts = ", ".join(quoted(text) for text in wanted[:5])
        return corroborated(self.name, f"it holds {texts}")


@dataclass(frozen=True, slots=True)
class OneOfOracle:
    """Judges an answer that must be one of some texts, space and end punctuation aside."""

    spec: OneOfSpec
    name: str = field(default="one_of", init=False)

    def judge(self, question: str, answer: str) -> Verdict:
        """Rule on the answer."""
        found = self._bare(answer)
        if found and found in {self._bare(text) for text in self.spec.expected}:
            return corroborated(self.name, f"it is {quoted(answer.strip())}")
        choices = ", ".join(quoted(text, 30) for text in self.spec.expected[:8])
        return falsified(self.name, f"expected one of {choices}, found {quoted(answer.strip())}")

    def _bare(self, text: str) -> str:
        return _folded(text.strip(_END_PUNCTUATION), self.spec.ignore_case)


def why_contains_inapplicable(spec: ContainsSpec) -> str | None:
    """Return why every answer would pass: no text is expected, or an empty one."""
    if not _texts(spec) or any(not text for text in _texts(spec)):
        return "`expected` is empty, and every answer holds an empty text; name a text"
    return None


def _texts(spec: ContainsSpec) -> tuple[str, ...]:
    return (spec.expected,) if isinstance(spec.expected, str) else spec.expected


def _folded(text: str, ignore_case: bool) -> str:
    return text.casefold() if ignore_case else text
