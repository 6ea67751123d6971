"""Contract files: one YAML document, read whole or refused with every mistake in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pytest_aprqa.domain.contract import Contract
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.formats.yaml_source import Source, Unreadable, parse

if TYPE_CHECKING:
    from pathlib import Path


class ContractError(AprqaError):
    """A contract cannot be read; one line `file:line: mistake` for each."""


def read_contract(path: Path) -> Contract:
    """The contract in a file.

    Raises:
        ContractError: the file cannot be read, or with one line for every mistake in it.
    """
    try:
        source = parse(path.read_bytes())
    except OSError as error:
        raise ContractError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Unreadable as error:
        raise ContractError(f"{path}:{error.line}: {error}") from error
    problems = [
        (source.mistake_lines.get(number) or _line(source, mistake.loc), mistake.text)
        for number, mistake in enumerate(source.mistakes)
    ]
    try:
        contract = Contract.model_validate_json(json.dumps(source.data), strict=True)
    except ValidationError as error:
        problems += [_told(source, each["loc"], each["msg"]) for each in error.errors()]
    else:
        if not problems:
            return contract
    lines = dict.fromkeys(f"{path}:{line}: {text}" for line, text in sorted(problems))
    raise ContractError("\n".join(lines))


def _told(source: Source, loc: tuple[int | str, ...], text: str) -> tuple[int, str]:
    """A mistake's line and its text, which names the key by the part of its way that is there."""
    known = next(loc[:n] for n in range(len(loc), -1, -1) if loc[:n] in source.lines)
    # Unions add their own names to the way; a missing key is named though it has no line.
    named = known if len(loc) - len(known) > 1 or known == loc else loc
    where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in named)
    message = text.removeprefix("Value error, ")
    return source.lines[known], f"{where.lstrip('.')}: {message}" if where else message


def _line(source: Source, loc: tuple[int | str, ...]) -> int:
    return next(source.lines[loc[:n]] for n in range(len(loc), -1, -1) if loc[:n] in source.lines)
