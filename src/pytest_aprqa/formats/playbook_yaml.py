"""Playbook files: one YAML document, read whole or refused with every mistake in it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pytest_aprqa.domain.errors import PlaybookError
from pytest_aprqa.domain.playbook import Matrix, Mistake, Playbook, Scenario, disagreements
from pytest_aprqa.formats.playbook_forms import Form, Loc, canonical
from pytest_aprqa.formats.playbook_problems import got, translate
from pytest_aprqa.formats.playbook_schema import playbook_json_schema
from pytest_aprqa.formats.yaml_source import Source, Unreadable, parse

__all__ = ["PlaybookDocument", "playbook_json_schema", "read_playbook"]

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class PlaybookDocument:
    """A playbook with the file it came from: its bytes' digest and where each key stands."""

    path: Path
    sha256: str
    playbook: Playbook
    lines: Mapping[Loc, int]

    def line_of(self, *keys: str | int) -> int:
        """The line of a key or item, of its nearest parent where the file does not have it."""
        return _line(self.lines, keys)


def read_playbook(path: Path) -> PlaybookDocument:
    """The playbook in the file; raises PlaybookError with one line for every mistake in it."""
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise PlaybookError(path, [f"{path}: cannot be read: {exc.strerror or exc}"]) from exc
    try:
        source = parse(content)
    except Unreadable as exc:
        raise PlaybookError(path, [f"{path}:{exc.line}: {exc}"]) from exc
    stem = re.sub(r"\.(playbook\.)?ya?ml$", "", path.name)
    form = canonical(source.data, name=stem, spellings=source.spellings)
    playbook, found = _validate(form)
    if playbook is None or source.mistakes or form.mistakes:
        raise PlaybookError(path, _problems(path, source, form, found))
    lines = source.lines | {
        data: _line(source.lines, home)
        for data, home in form.moved.items()
        if data not in source.lines
    }
    digest = hashlib.sha256(content).hexdigest()
    return PlaybookDocument(path, digest, playbook, MappingProxyType(lines))


def _validate(form: Form) -> tuple[Playbook | None, list[Mistake]]:
    if not isinstance(form.data, dict):
        return None, [Mistake((), f"expected a mapping of sections, got {got(form.data)}")]
    try:
        return _strict(Playbook, form.data), []
    except ValidationError as error:
        found = list(translate(error, form))
    further = (
        Mistake(form.source_of(mistake.loc), mistake.text)
        for mistake in _disagreements_of_parts(form.data)
    )
    return None, list(dict.fromkeys((*found, *further)))


def _strict(model: type[_Model], data: Any) -> _Model:
    """The data as the type, without guessing: JSON's types, so that a list becomes a tuple."""
    return model.model_validate_json(json.dumps(data), strict=True)


def _disagreements_of_parts(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """What the parts that are right say against each other, when some part is wrong."""
    scenarios = data.get("scenarios")
    return disagreements(
        _if_right(Matrix, data.get("test_matrix")),
        [_if_right(Scenario, _gist(item)) for item in scenarios]
        if isinstance(scenarios, list)
        else [],
    )


def _gist(scenario: Any) -> Any:
    """As much of a scenario as can disagree with the rest of the playbook."""
    if not isinstance(scenario, dict):
        return scenario
    keys = {"name", "turns", "system", "modalities"} & scenario.keys()
    asked = {} if "turns" in keys else {"prompt": ""}
    return asked | {key: scenario[key] for key in keys}


def _if_right(model: type[_Model], data: Any) -> _Model | None:
    try:
        return _strict(model, data)
    except ValidationError:
        return None


def _problems(path: Path, source: Source, form: Form, found: list[Mistake]) -> list[str]:
    """The mistakes as lines of text in the order of the file, one kind told of each place."""
    placed = []
    told = set()
    for index, mistake in enumerate(source.mistakes):
        line = source.mistake_lines.get(index)
        if line is None:  # about the value, which validation has seen as absent
            told.add(mistake.loc)
        placed.append((line or _line(source.lines, mistake.loc), mistake))
    for mistakes in (form.mistakes, found):
        fresh = [mistake for mistake in mistakes if mistake.loc not in told]
        told.update(mistake.loc for mistake in fresh)
        placed += [(_line(source.lines, mistake.loc), mistake) for mistake in fresh]
    unique = dict.fromkeys(sorted(placed, key=lambda item: item[0]))
    return [f"{path}:{line}: {_shown(mistake)}" for line, mistake in unique]


def _shown(mistake: Mistake) -> str:
    where = ""
    for key in mistake.loc:
        if isinstance(key, int):
            where += f"[{key}]"
        else:
            where += f".{key}" if _PLAIN_KEY.fullmatch(key) else f".{got(key)}"
    return f"{where.lstrip('.')}: {mistake.text}" if where else mistake.text


def _line(lines: Mapping[Loc, int], loc: Loc) -> int:
    return next(lines[loc[:n]] for n in range(len(loc), -1, -1) if loc[:n] in lines)
