"""Whether an answer is about its question and keeps the form asked for.

Form comes from the settings and from the question's own words (`in one sentence`, `three colors`,
`yes or no`, `in JSON`). Relevance is `min_relevance`, when set: the share of the question's content
words (stemmed, kin counted) met in the answer. Without it, the question's type is expected (a
quantity for `How many`, a time for `When`, a name for `Who`, an explanation for `Why`), an echo is
no answer, and a long answer must share one content word with its question.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pytest_aprqa.domain.oracle_spec import ResponseSpec
from pytest_aprqa.domain.verdict import Verdict
from pytest_aprqa.oracles.response.expectation import unmet
from pytest_aprqa.oracles.response.form import count_items, count_sentences, read_json
from pytest_aprqa.oracles.response.instructions import Form, wanted_form
from pytest_aprqa.oracles.response.words import content_stems, kin, overlap, stem, words
from pytest_aprqa.oracles.text import quoted, readable
from pytest_aprqa.oracles.verdicts import corroborated, falsified, inapplicable


@dataclass(frozen=True, slots=True)
class ResponseOracle:
    """Judges an answer's subject and form."""

    spec: ResponseSpec
    name: str = field(default="response", init=False)

    def judge(self, question: str, answer: str) -> Verdict:
        """Rule on the answer; inapplicable when the question has no subject and asks no form."""
        problem = why_inapplicable(self.spec, question)
        if problem:
            return inapplicable(self.name, problem)
        text = readable(answer)
        shown = quoted(answer.strip())
        form = wanted_form(self.spec, question)
        if not form.json and not any(char.isalnum() for char in text):
            return falsified(self.name, f"it has no words: {shown}")
        failure = next(self._failures(question, answer, form), None)
        if failure:
            return falsified(self.name, f"{failure}: {shown}")
        return corroborated(self.name, f"it meets what was asked: {shown}")

    def _failures(self, question: str, answer: str, form: Form) -> Iterator[str]:
        if form.json:
            yield from self._json_failures(answer)
        text = readable(answer)
        yield from self._form_failures(text, form)
        yield from self._subject_failures(question, text, form)

    def _form_failures(self, answer: str, form: Form) -> Iterator[str]:
        said = words(answer)
        if form.one_word and len(said) != 1 and len(answer.split()) != 1:
            yield f"expected one word, found {len(said)}"
        if form.yes_no and not _is_yes_or_no(said):
            yield "expected yes or no"
        if form.sentences and (count := count_sentences(answer)) != form.sentences:
            yield f"expected {_counted(form.sentences, 'sentence')}, found {count}"
        if form.items and (count := count_items(answer)) != form.items:
            yield f"expected {_counted(form.items, 'item')}, found {count}"
        if form.max_words and len(said) > form.max_words:
            yield f"expected at most {_counted(form.max_words, 'word')}, found {len(said)}"

    def _json_failures(self, answer: str) -> Iterator[str]:
        value, problem = read_json(answer)
        if problem:
            yield f"expected JSON: {problem}"
        elif self.spec.json_schema is not None and (
            mismatch := schema_mismatch(value, self.spec.json_schema)
        ):
            yield f"the JSON does not fit the schema: {mismatch}"

    def _subject_failures(self, question: str, answer: str, form: Form) -> Iterator[str]:
        if self.spec.keywords and not any(_mentions(answer, word) for word in self.spec.keywords):
            yield f"none of the keywords {', '.join(self.spec.keywords)} appears"
        if self.spec.min_relevance is not None:
            share = overlap(question, answer)
            if share is not None and share < self.spec.min_relevance:
                yield (
                    f"it holds {share:.0%} of the question's content words, "
                    f"expected at least {self.spec.min_relevance:.0%}"
                )
            return
        if form.yes_no or form.one_word or form.json or self.spec.keywords:
            return
        if failure := unmet(question, answer):
            yield failure


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _is_yes_or_no(said: list[str]) -> bool:
    return bool(said) and said[0] in ("yes", "no") and not {"yes", "no"} <= set(said[:4])


def _mentions(answer: str, keyword: str) -> bool:
    """Tell a keyword, or the same words with other endings, in the answer."""
    wanted = [stem(word) for word in words(keyword)]
    said = [stem(word) for word in words(answer)]
    if not wanted:
        return keyword in answer
    return any(
        all(kin(mine, theirs) for mine, theirs in zip(wanted, said[at:], strict=False))
        for at in range(len(said) - len(wanted) + 1)
    )


def schema_mismatch(value: Any, schema: dict[str, Any]) -> str | None:
    """Return the schema's first complaint about the value; remote references are not fetched."""
    from jsonschema import Draft202012Validator
    from referencing import Registry

    validator = Draft202012Validator(schema, registry=Registry())
    try:
        problem = next(iter(validator.iter_errors(value)), None)
    except Exception as error:  # a reference that leads nowhere; jsonschema has no common root
        return f"{type(error).__name__}: {error}"
    return None if problem is None else f"{problem.json_path}: {quoted(problem.message)}"


def why_inapplicable(spec: ResponseSpec, question: str) -> str | None:
    """Return why nothing about an answer can be checked, or what is wrong with the schema."""
    if spec.json_schema is not None and (problem := _schema_problem(spec.json_schema)):
        return f"`json_schema` is no JSON schema: {problem}; correct it"
    if wanted_form(spec, question).asked or spec.keywords:
        return None
    if content_stems(question):
        return None
    return (
        f"{quoted(question.strip())} names no subject and asks for no form; "
        "set `keywords`, `sentences`, `items`, `max_words` or `json_schema`"
    )


def _schema_problem(schema: dict[str, Any]) -> str | None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return error.message
    return None
