"""The regex oracle: a pattern found in the answer, within a bounded time.

Python's `re` cannot be stopped, and a pattern with nested or several repetitions can take for ever
on an answer made for it. A search that is cheap by an estimate runs here; any other runs in a child
interpreter that is stopped after `TIME_LIMIT_S`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass, field

from pytest_aprqa.domain.oracle_spec import RegexSpec
from pytest_aprqa.domain.verdict import Verdict
from pytest_aprqa.oracles.text import quoted
from pytest_aprqa.oracles.verdicts import corroborated, falsified, inapplicable

TIME_LIMIT_S = 2.0
"""Longest search; a child interpreter starts in a tenth of it."""

CHEAP_STEPS = 5_000_000
"""Most steps of a search run in this process, about a tenth of a second."""

_REPEAT = re.compile(r"(?<!\\)(?:\\\\)*[*+?{]")
_REPEATED_GROUP = re.compile(r"\)[*+?{]")
_CHILD = (
    "import json, re, sys\n"
    "pattern, text = json.load(sys.stdin)\n"
    "found = re.search(pattern, text)\n"
    "json.dump(found and list(found.span()), sys.stdout)\n"
)


@dataclass(frozen=True, slots=True)
class RegexOracle:
    """Judges an answer that must match a pattern somewhere (`re.search`)."""

    spec: RegexSpec
    name: str = field(default="regex", init=False)

    def judge(self, question: str, answer: str) -> Verdict:
        """Rule on the answer; inapplicable when the pattern is wrong or takes too long."""
        problem = why_inapplicable(self.spec)
        if problem:
            return inapplicable(self.name, problem)
        shown = quoted(answer.strip())
        pattern = quoted(self.spec.pattern)
        try:
            span = search(self.spec.pattern, answer)
        except TimeoutError:
            return inapplicable(
                self.name,
                f"pattern {pattern} took over {TIME_LIMIT_S:g} s on {shown}; simplify it",
            )
        if span is None:
            return falsified(self.name, f"pattern {pattern} is not found in {shown}")
        found = quoted(answer[span[0] : span[1]])
        return corroborated(self.name, f"pattern {pattern} matches {found}")


def why_inapplicable(spec: RegexSpec) -> str | None:
    """Return what is wrong with the pattern; None when it can refute an answer."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = re.compile(spec.pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"`pattern` {quoted(spec.pattern)} is no regular expression: {error}; correct it"
    if compiled.search("") is not None:
        return (
            f"`pattern` {quoted(spec.pattern)} matches an empty answer, so it refutes nothing; "
            "make it ask for something"
        )
    return None


def search(pattern: str, text: str) -> tuple[int, int] | None:
    """Return the span of the first match; raises TimeoutError after `TIME_LIMIT_S`."""
    if _cheap(pattern, text):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = re.search(pattern, text)
        return found.span() if found else None
    command = [sys.executable, "-I", "-W", "ignore", "-c", _CHILD]
    try:
        result = subprocess.run(
            command,
            input=json.dumps([pattern, text]),
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        raise TimeoutError(pattern) from error
    span = json.loads(result.stdout)
    return (span[0], span[1]) if span else None


def _cheap(pattern: str, text: str) -> bool:
    """Tell a search whose worst case is few steps: length to the power of the repetitions."""
    repeats = len(_REPEAT.findall(pattern))
    if repeats > 1 and _REPEATED_GROUP.search(pattern):
        return False
    if repeats > 6:
        return False
    return int((len(text) + 1) ** (repeats + 1)) <= CHEAP_STEPS
