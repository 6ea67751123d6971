"""Whether an answer is text at all, by the first rule that it breaks.

In order: blank; control characters, lone surrogates, U+FFFD, private-use floods (`characters`);
tokens of a tokenizer, NaN floods, mojibake (`leaks`); one character over and over, too few
different ones (`collapse`); loops (`loops`); words drawn at random (`soup`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pytest_aprqa.domain.oracle_spec import GarbageSpec
from pytest_aprqa.domain.verdict import Verdict
from pytest_aprqa.oracles.garbage import characters, collapse, leaks, loops, soup
from pytest_aprqa.oracles.text import quoted, readable
from pytest_aprqa.oracles.verdicts import corroborated, falsified


@dataclass(frozen=True, slots=True)
class GarbageOracle:
    """Falsifies text that no person and no program would have meant."""

    spec: GarbageSpec
    name: str = field(default="garbage", init=False)

    def judge(self, question: str, answer: str) -> Verdict:
        """Rule on the answer; every question can be answered with text."""
        problem = next(self._problems(question, answer), None)
        if problem:
            return falsified(self.name, problem)
        return corroborated(self.name, f"{len(answer)} characters of text: {quoted(answer)}")

    def _problems(self, question: str, answer: str) -> Iterator[str]:
        yield from characters.problems(answer)
        text = readable(answer)
        yield from leaks.problems(text, question)
        yield from collapse.problems(text, self.spec.min_unique_chars)
        yield from loops.problems(text, self.spec.max_repetition_ratio)
        yield from soup.problems(text, question)
