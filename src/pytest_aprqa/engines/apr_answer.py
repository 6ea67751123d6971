"""What the `apr` program said: the one text in its JSON, its counts, and a Rust panic."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TEXT_KEYS = ("text", "generated_text", "completion", "response", "output", "answer", "content")
"""Where the text may be, the surest first; the program's JSON is not documented."""
COUNT_KEYS = ("completion_tokens", "tokens_generated", "generated_tokens", "num_tokens")
ID_KEYS = ("token_ids", "generated_token_ids", "output_token_ids")
_INNER = ("result", "message", "data")
_LENGTH_WORDS = ("length", "max_tokens")
_PANIC = re.compile(r"thread '[^']*'[^\n]* panicked at (?P<first>[^\n]*)(?:\n(?P<second>[^\n]*))?")
_PLACE = re.compile(r".+:\d+:\d+:")


@dataclass(frozen=True, slots=True)
class AprAnswer:
    """One answer as it was told; what was not told is None or empty."""

    text: str
    tokens: int | None = None
    """Generated tokens, as counted by the program."""
    token_ids: tuple[int, ...] = ()
    prompt_tokens: int = 0
    cut_off: bool = False
    """Whether it says that the limit of tokens ended it."""


class Unreadable(ValueError):
    """The output holds no answer, or more than one; the message shows its beginning."""


def parse_answer(output: str) -> AprAnswer:
    """The answer in the program's standard output, banners and log lines around it left out.

    Raises:
        Unreadable: no JSON object, none with a text, several with one, or an error.
    """
    found = list(_objects(output))
    shown = one_line(output, limit=120) or "nothing"
    if not found:
        raise Unreadable(f"expected a JSON object, found {shown}")
    texts = [(item, text) for item in found if (text := _text(item)) is not None]
    errors = [item["error"] for item in found if item.get("error")]
    if errors and not texts:
        raise Unreadable(f"it reports {one_line(errors[0], limit=200)}")
    if not texts:
        raise Unreadable(f"expected a text under {', '.join(TEXT_KEYS)}, found {shown}")
    if len(texts) > 1:
        raise Unreadable(f"expected one JSON object with a text, found {len(texts)}: {shown}")
    item, text = texts[0]
    usage = item["usage"] if isinstance(item.get("usage"), dict) else {}
    ids = next((_ids(item[key]) for key in ID_KEYS if key in item), ())
    return AprAnswer(
        text=text,
        tokens=_count({**usage, **item}, COUNT_KEYS),
        token_ids=ids,
        prompt_tokens=_count({**usage, **item}, ("prompt_tokens",)) or 0,
        cut_off=_finish(item) in _LENGTH_WORDS,
    )


def panic_in(errors: str) -> str | None:
    """A Rust panic's message and place in one line; None when there is none."""
    met = _PANIC.search(errors)
    if met is None:
        return None
    first, second = met["first"].strip(), (met["second"] or "").strip()
    if _PLACE.fullmatch(first):  # since Rust 1.73 the message has a line of its own
        return one_line(f"{second} at {first.removesuffix(':')}")
    return one_line(first)


def _objects(output: str) -> Iterator[Mapping[str, Any]]:
    """The JSON objects that begin a line, in order."""
    decoder = json.JSONDecoder()
    position = 0
    for met in re.finditer(r"^[ \t]*(?=\{)", output, re.MULTILINE):
        if met.end() < position:
            continue  # within the last object
        try:
            value, position = decoder.raw_decode(output, met.end())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def _text(item: Mapping[str, Any]) -> str | None:
    choices = item.get("choices")
    if isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict):
        return _text(choices[0])
    for key in TEXT_KEYS:
        if isinstance(item.get(key), str):
            return str(item[key])
    inner = [item[key] for key in _INNER if isinstance(item.get(key), dict)]
    return next((text for value in inner if (text := _text(value)) is not None), None)


def _count(item: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    counts = (item.get(key) for key in keys)
    return next(
        (n for n in counts if isinstance(n, int) and not isinstance(n, bool) and n >= 0), None
    )


def _ids(value: object) -> tuple[int, ...]:
    whole = isinstance(value, list) and all(type(i) is int for i in value)
    return tuple(value) if isinstance(value, list) and whole else ()


def _finish(item: Mapping[str, Any]) -> object:
    choices = item.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0].get("finish_reason")
    return item.get("finish_reason", item.get("stop_reason"))
