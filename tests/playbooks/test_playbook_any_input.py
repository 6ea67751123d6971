from __future__ import annotations

import json
import re
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_aprqa.domain.errors import PlaybookError
from tests.playbooks.playbook_texts import read
from tests.playbooks.test_playbook_schema import VALID

WORDS = st.sampled_from(
    re.findall(
        r"\S+",
        """
        name version model test_matrix scenarios oracles gates metadata prompt turns system
        oracle expected language type config all any none pattern modalities backends formats id
        hf_repo seed arithmetic garbage composite regex contains one_of exact code_syntax
        response run chat cpu apr true 1e-5 ${X} ( ~ .nan <<""",
    )
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS
DATA = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=12,
)
FULL: dict[str, Any] = VALID | {
    "gates": {"g0_integrity": "true"},
    "failure_policy": "collect_all",
    "metadata": {"a": [1]},
    "oracles": ["garbage", {"type": "response", "config": {"items": 2}}],
    "scenarios": [
        {"name": "a", "prompt": "x", "oracle": "arithmetic", "expected": 4},
        {"name": "b", "turns": ["x"], "oracle": [{"type": "regex", "pattern": "x"}, "garbage"]},
        {"name": "c", "prompt": "x", "oracle": {"type": "composite", "any": ["garbage"]}},
        {"name": "d", "prompt": "x", "oracle": {"type": "contains"}, "expected": ["x"]},
    ],
}


def paths(data: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every value in the data."""
    if isinstance(data, dict):
        pairs: list[tuple[str | int, Any]] = list(data.items())
    else:
        pairs = list(enumerate(data)) if isinstance(data, list) else []
    return [at, *(path for key, item in pairs for path in paths(item, (*at, key)))]


def replaced(data: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """The data with another value at the path."""
    if not path:
        return value
    copy = data.copy()
    copy[path[0]] = replaced(data[path[0]], path[1:], value)
    return copy


def check(text: str | bytes) -> None:
    """Text is read, or refused in words of ours, one line each, in the order of the file."""
    try:
        first = read(text)
    except PlaybookError as error:
        refusal = error
    else:
        assert read(text).playbook == first.playbook
        return
    lines = []
    for problem in refusal.problems:
        line, _, message = problem.removeprefix(f"{refusal.path}:").partition(": ")
        lines.append(int(line))
        assert message.isprintable()
        assert "Input should" not in message
        assert "not accepted" not in message
    assert lines
    assert lines == sorted(lines)


@given(st.text() | st.binary())
@example('a: "\\ud800"')
@example("? [a]\n: b")
@example("%YAML 1.3\n---\na: 1")
@example("a: !!int x")
@example("a: 0x_")
@example("\r\x85 a")
def test_any_text(text: str | bytes) -> None:
    check(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)


@given(DATA)
@settings(deadline=None)
def test_any_data(data: Any) -> None:
    check(yaml.safe_dump(data))
    check(json.dumps(data))


@given(st.sampled_from(paths(FULL)), DATA)
@settings(deadline=None, max_examples=300)
def test_a_playbook_with_anything_anywhere(path: tuple[str | int, ...], value: Any) -> None:
    check(json.dumps(replaced(FULL, path, value)))


def test_the_playbook_that_is_changed_is_right() -> None:
    assert len(read(json.dumps(FULL)).playbook.scenarios) == 4
