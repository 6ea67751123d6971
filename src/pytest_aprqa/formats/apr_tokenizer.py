"""Rules on the tokenizer that an APR file carries in its metadata.

Keys hold a dot (`tokenizer.vocabulary`); nothing is nested. realizar drops entries of the
vocabulary that are no texts, which moves every id after them, so each must be one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.formats.apr_fields import is_count, is_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VOCABULARY = "tokenizer.vocabulary"
_TEXTS = ("model_type", "model", "pre_type", "chat_template", "architecture", "model_name")
_IDS = ("bos_token_id", "eos_token_id", "padding_token_id")


def tokenizer_problems(metadata: Mapping[str, Any]) -> list[str]:
    """One line for each tokenizer field that a reader would misread or refuse."""
    problems = [
        f"tokenizer.{key} is {value!r:.40}; expected a text"
        for key in _TEXTS
        if (value := metadata.get(f"tokenizer.{key}")) is not None and not isinstance(value, str)
    ]
    adds = metadata.get("tokenizer.add_bos_token")
    if adds is not None and not isinstance(adds, bool):
        problems.append(f"tokenizer.add_bos_token is {adds!r:.40}; expected true or false")
    problems += _list_problem(
        metadata,
        "tokenizer.merges",
        lambda merge: isinstance(merge, str) and " " in merge[1:-1],
        'texts of two parts, "left right"',
    )
    words = metadata.get(VOCABULARY)
    if words is None:
        return problems + _orphans(metadata)
    if wrong := _list_problem(metadata, VOCABULARY, lambda w: isinstance(w, str), "texts"):
        return problems + wrong
    return problems + _vocabulary(metadata, len(words))


def _orphans(metadata: Mapping[str, Any]) -> list[str]:
    """Fields that mean nothing without a vocabulary."""
    keys = ("tokenizer.merges", "tokenizer.scores", "tokenizer.token_type")
    return [f"{key} is there without {VOCABULARY}" for key in keys if metadata.get(key) is not None]


def _vocabulary(metadata: Mapping[str, Any], size: int) -> list[str]:
    """Fields that must agree with the vocabulary's length."""
    problems = []
    for key in ("tokenizer.vocab_size", "vocab_size"):
        value = metadata.get(key)
        if value is not None and (type(value) is not int or value != size):
            problems.append(f"{key} is {value!r:.40}; expected {size}, the length of {VOCABULARY}")
    kinds: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
        ("tokenizer.scores", is_number, "finite numbers"),
        ("tokenizer.token_type", is_count, "integers of at least 0"),
    )
    for key, test, expected in kinds:
        wrong = _list_problem(metadata, key, test, expected)
        problems += wrong
        values = metadata.get(key)
        if values is not None and not wrong and len(values) != size:
            problems.append(f"{key} has {len(values)} values; expected {size} as {VOCABULARY}")
    for name in _IDS:
        number = metadata.get(f"tokenizer.{name}")
        if number is not None and (not is_count(number) or number >= size):
            problems.append(f"tokenizer.{name} is {number!r:.40}; expected an id below {size}")
    return problems


def _list_problem(
    metadata: Mapping[str, Any], key: str, test: Callable[[Any], bool], expected: str
) -> list[str]:
    """One line when a field is there and is no list of what is expected."""
    values = metadata.get(key)
    if values is None:
        return []
    if not isinstance(values, list | tuple):
        return [f"{key} is a {type(values).__name__}; expected a list of {expected}"]
    for place, value in enumerate(values):
        if not test(value):
            return [f"{key}[{place}] is {value!r:.40}; expected {expected}"]
    return []
