"""What validation found, in the words of the file: which key, what is wrong, what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from pytest_aprqa.domain.oracle_spec import BUILT_IN
from pytest_aprqa.domain.playbook import (
    EndpointRef,
    Gates,
    Matrix,
    Mistake,
    ModelRef,
    Playbook,
    Scenario,
)
from pytest_aprqa.domain.sections import Sections
from pytest_aprqa.formats.playbook_forms import Form, Loc

ORACLE_TYPES: dict[str, type[BaseModel]] = dict(BUILT_IN)
SHORTHAND_KEYS: dict[type[BaseModel], tuple[str, ...]] = {
    ModelRef: ("hf_repo",),
    Matrix: ("formats",),
    Scenario: ("expected", "language"),
}
_SECTIONS: dict[str, type[BaseModel]] = {
    "model": ModelRef,
    "test_matrix": Matrix,
    "gates": Gates,
    "endpoint": EndpointRef,
    "scenarios": Scenario,
}
_NOUNS = {
    "modalities": "modality",
    "backends": "backend",
    "formats": "format",
    "quantizations": "quantization",
    "languages": "language",
    "failure_policy": "failure policy",
    "size_category": "size category",
}
_MISSING = {
    "version": 'version: "1.0"',
    "model": "model: with id and formats",
    "test_matrix": "test_matrix: with modalities and backends",
    "id": "the repository, as id: org/name",
    "formats": "formats: [safetensors], here or in test_matrix; allowed: safetensors, apr, gguf",
    "modalities": "modalities: [run]; allowed: run, chat, serve",
    "backends": "backends: [cpu]; allowed: cpu, gpu",
    "name": "name: arithmetic_basic, say",
    "pattern": "pattern: the regular expression to find",
    "expected": "expected: what the answer must be",
}
_PATTERNS = {
    ("id",): "org/name (of letters, digits, '-', '_' and '.')",
    ("endpoint", "url"): (
        "the root of a server such as http://127.0.0.1:8000, without user, password or query: "
        "keys come from the environment"
    ),
    ("endpoint", "api_key_env"): "the name of an environment variable",
    ("version",): 'a version such as "1.0" or "1.0.0"',
    ("name",): (
        "a name of lower-case letters, digits, '.', '_' and '-', beginning with a letter or digit"
    ),
    ("scenarios", "name"): (
        "a name of letters, digits, '.', '_' and '-', beginning with a letter or digit, "
        "so that -k can select it"
    ),
}
_EXPECTED = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def got(value: Any) -> str:
    """A value as a message shows it: one line, short."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case list():
            return "a list"
        case dict():
            return "a mapping"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def suggestion(word: object, allowed: Sequence[str]) -> str:
    """`; did you mean 'gpu'? allowed: cpu, gpu`, the question only when one is close."""
    lowered = {name.lower(): name for name in allowed}
    near = difflib.get_close_matches(str(word)[:64].lower(), list(lowered), n=1, cutoff=0.6)
    question = f"; did you mean '{lowered[near[0]]}'?" if near else ";"
    return f"{question} allowed: {', '.join(allowed)}"


def translate(error: ValidationError, form: Form) -> Iterator[Mistake]:
    """Every finding of a validation as a mistake at its place in the file, each once."""
    seen = set()
    for item in error.errors(include_url=False):
        if item["type"] == "too_short" and item["input"]:
            continue  # counted without its wrong items, which are told one by one
        mistake = _mistake(item["type"], item["loc"], item.get("ctx", {}), form)
        if mistake not in seen:
            seen.add(mistake)
            yield mistake


def _mistake(kind: str, loc: Loc, context: dict[str, Any], form: Form) -> Mistake:
    path, value, undecided = _walk(form.data, loc)
    if undecided and kind != "missing":
        text = f"expected text or a list of texts, got {got(value)}"
    elif kind == "missing":
        path = (*path, loc[-1])
        text = f"missing; add {_MISSING.get(str(loc[-1]), loc[-1])}"
    elif kind == "extra_forbidden":
        text = f"unknown key {got(loc[-1])}{suggestion(loc[-1], allowed_keys(loc[:-1]))}"
    elif kind.startswith("union_tag") or (_EXPECTED.get(kind) == "a mapping" and _is_oracle(path)):
        path, text = _oracle_mistake(path, value)
    else:
        text = _text(kind, path, value, context)
    return Mistake(form.source_of(path), text)


def _walk(data: Any, loc: Loc) -> tuple[Loc, Any, bool]:
    """The place in the data, its value, and whether the location names one arm of a union.

    Validation puts the oracle's type and the union's arms among the keys; the data has neither.
    """
    path: Loc = ()
    undecided = tagged = False
    for key in loc:
        if not tagged and key in ORACLE_TYPES and _is_type_of(data, key):
            tagged = True
        elif _holds(data, key):
            path, data, tagged = (*path, key), data[key], False
        else:
            undecided = True
            break
    return path, data, undecided


def _is_type_of(data: Any, name: str | int) -> bool:
    return isinstance(data, dict) and data.get("type") == name


def _holds(data: Any, key: str | int) -> bool:
    if isinstance(data, list):
        return isinstance(key, int) and key < len(data)
    return isinstance(data, dict) and key in data


def allowed_keys(loc: Loc) -> tuple[str, ...]:
    """The keys that a file may have at a location of a validation error."""
    last = loc[-1] if loc else None
    if isinstance(last, str) and last in ORACLE_TYPES:
        return tuple(key for key in ORACLE_TYPES[last].model_fields if key != "type")
    part = _part_at(loc)
    own = [key for key in part.model_fields if key not in Sections.model_fields]
    keys = own + [key for key in part.model_fields if key not in own]
    return (*keys, *SHORTHAND_KEYS.get(part, ()))


def _part_at(loc: Loc) -> type[BaseModel]:
    """The type of the mapping at a location; of its nearest parent that is one."""
    if loc and str(loc[0]) in _SECTIONS:
        return _SECTIONS[str(loc[0])]
    part: type[BaseModel] = Playbook
    for key in loc:
        field = part.model_fields.get(str(key))
        of = () if field is None else (field.annotation, *get_args(field.annotation))
        inner = [one for one in of if isinstance(one, type) and issubclass(one, BaseModel)]
        part = inner[0] if inner else part
    return part


def _is_oracle(path: Loc) -> bool:
    keys = [key for key in path if isinstance(key, str)]
    return keys[-1:] in (["oracle"], ["oracles"], ["all"], ["any"], ["none"])


def _oracle_mistake(path: Loc, value: Any) -> tuple[Loc, str]:
    names = tuple(ORACLE_TYPES)
    if not isinstance(value, dict):
        return path, f"expected an oracle's name, list or mapping, got {got(value)}"
    kind = value.get("type")
    if "type" not in value:
        return (*path, "type"), f"missing; add type; allowed: {', '.join(names)}"
    return (*path, "type"), f"unknown oracle {got(kind)}{suggestion(kind, names)}"


def _text(kind: str, path: Loc, value: Any, context: dict[str, Any]) -> str:
    keys = tuple(key for key in path if isinstance(key, str))
    if kind == "aprqa":
        return str(context["text"])
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, got {got(value)}{_remedy(kind, value)}"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        bound = int(context[key]) if context[key] == int(context[key]) else context[key]
        return f"must be {words} {bound}, got {got(value)}"
    if kind in ("enum", "literal_error"):
        noun = _NOUNS.get(keys[-1], keys[-1])
        allowed = re.findall(r"'([^']*)'", str(context["expected"]))
        return f"unknown {noun} {got(value)}{suggestion(value, allowed)}"
    if kind == "string_pattern_mismatch":
        known = _PATTERNS.get(keys[-2:]) or _PATTERNS[keys[-1:]]
        return f"expected {known}, got {got(value)}"
    if kind in ("too_short", "string_too_short"):
        return (
            f"is empty; {'list at least one' if kind == 'too_short' else 'write it or remove it'}"
        )
    return f"not accepted: {got(value)}"


def _remedy(kind: str, value: Any) -> str:
    if kind == "string_type" and isinstance(value, bool | int | float):
        return "; quote it"
    if kind == "tuple_type" and isinstance(value, str) and re.fullmatch(r"[\w.-]{1,40}", value):
        return f"; write [{value}]"
    if kind in ("int_type", "float_type") and isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return ""
        return "; remove the quotes"
    return ""
