"""Whether an answer holds code that a parser of the wanted language accepts.

What is parsed: the fenced blocks tagged with a wanted language, else the untagged ones; with no
fence, the question continued by the answer when the question is itself the beginning of code;
else the answer, less the prose around its code. Accepted is a text without any syntax error that
holds a construct (a definition, assignment, call, control structure, query): prose that happens to
parse does not. The end of an unfenced or unclosed answer may be an unfinished statement, because
generation stops at a token limit: then its complete lines are parsed, open blocks closed, and must
hold a construct of the answer's own. An error before the end refutes it in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pytest_aprqa.domain.oracle_spec import CodeSyntaxSpec, Language
from pytest_aprqa.domain.verdict import Verdict
from pytest_aprqa.oracles.code_syntax import languages
from pytest_aprqa.oracles.code_syntax.candidates import (
    Candidate,
    completions,
    judge_candidate,
    regions,
)
from pytest_aprqa.oracles.code_syntax.fences import Fence, fences
from pytest_aprqa.oracles.code_syntax.parsers import Parse
from pytest_aprqa.oracles.text import quoted
from pytest_aprqa.oracles.verdicts import corroborated, falsified, inapplicable


@dataclass(frozen=True, slots=True)
class CodeSyntaxOracle:
    """Judges the code in an answer by parsing it; nothing is run."""

    spec: CodeSyntaxSpec
    name: str = field(default="code_syntax", init=False)

    def judge(self, question: str, answer: str) -> Verdict:
        """Rule on the answer; inapplicable when nothing says that it should be code."""
        problem = why_inapplicable(self.spec, question)
        if problem:
            return inapplicable(self.name, problem)
        wanted = wanted_languages(self.spec, question)
        label = wanted[0] if len(wanted) == 1 else "any language"
        if not answer.strip():
            return falsified(self.name, f"expected {label} code, but the answer is empty")
        blocks = fences(answer)
        if blocks:
            return self._judge_fences(question, blocks, wanted, answer)
        begun = languages.starting(question) is not None
        tried = completions(question, answer) if begun else regions(answer)
        return self._judge_texts(list(tried), wanted, answer)

    def _judge_texts(
        self, tried: Sequence[Candidate], wanted: Sequence[Language], answer: str
    ) -> Verdict:
        first: tuple[Language, Parse] | None = None
        for language in wanted:
            for candidate in tried:
                parsed = judge_candidate(language, candidate)
                if parsed.accepted:
                    reason = f"{language} accepts it: {quoted(answer.strip())}"
                    return corroborated(self.name, reason)
                first = first or (language, parsed)
        return self._refuted(first, wanted, answer)

    def _judge_fences(
        self, question: str, blocks: Sequence[Fence], wanted: Sequence[Language], answer: str
    ) -> Verdict:
        tagged = [(languages.tagged(block.tag), block) for block in blocks]
        chosen = [(language, block) for language, block in tagged if language in wanted]
        neutral = [block for block in blocks if block.tag.lower() in languages.NEUTRAL_TAGS]
        if not chosen and not neutral:
            tags = ", ".join(sorted({block.tag for block in blocks}))
            return falsified(
                self.name, f"expected {' or '.join(wanted[:3])} code, but its fences are {tags}"
            )
        accepted = ""
        for named_language, block in chosen:
            assert named_language is not None  # it is one of `wanted`
            parsed = self._block(question, block, named_language)
            if parsed.error or (not parsed.accepted and len(chosen) == 1):
                return self._refuted((named_language, parsed), [named_language], block.code)
            accepted = accepted or (named_language if parsed.accepted else "")
        if accepted:
            return corroborated(self.name, f"{accepted} accepts it: {quoted(answer.strip())}")
        first: tuple[Language, Parse] | None = None
        for block in neutral:
            for language in wanted:
                parsed = self._block(question, block, language)
                if parsed.accepted:
                    reason = f"{language} accepts it: {quoted(answer.strip())}"
                    return corroborated(self.name, reason)
                first = first or (language, parsed)
        return self._refuted(first, wanted, answer)

    def _block(self, question: str, block: Fence, language: Language) -> Parse:
        parsed = judge_candidate(language, Candidate(block.code, may_be_cut=not block.closed))
        if parsed.accepted or languages.starting(question) is None:
            return parsed
        for candidate in completions(question, block.code):
            continued = judge_candidate(language, candidate)
            if continued.accepted:
                return continued
        return parsed

    def _refuted(
        self, first: tuple[Language, Parse] | None, wanted: Sequence[Language], answer: str
    ) -> Verdict:
        shown = quoted(answer.strip())
        if first is None or len(wanted) > 1:
            tried = ", ".join(wanted)
            return falsified(self.name, f"no parser accepts it as code ({tried}): {shown}")
        language, parsed = first
        if not parsed.error:
            return falsified(self.name, f"it holds no {language} construct: {shown}")
        return falsified(self.name, f"{language} rejects it: {parsed.error}: {shown}")


def wanted_languages(spec: CodeSyntaxSpec, question: str) -> tuple[Language, ...]:
    """Return the languages accepted: the settings', else the question's, else all."""
    if spec.language:
        return (spec.language,)
    if spec.languages:
        return spec.languages
    found = languages.starting(question) or languages.named(question)
    if found == "javascript":
        return ("javascript", "typescript")
    if found == "c":
        return ("c", "cpp")
    return (found,) if found else languages.LANGUAGES


def why_inapplicable(spec: CodeSyntaxSpec, question: str) -> str | None:
    """Return why answers to this question need not be code; None when they must be."""
    if spec.language or spec.languages or languages.asks_for_code(question):
        return None
    return (
        f"{quoted(question.strip())} is not code and asks for none; set `language`, or ask for code"
    )
