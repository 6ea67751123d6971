"""Evidence on disk: JSON Lines while a run goes on, one JSON document at its end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.evidence import SCHEMA_VERSION, RunRecord

JOURNAL = "evidence.jsonl"
DOCUMENT = "evidence.json"


def append_line(directory: Path, payload: dict[str, Any]) -> None:
    """Add one payload to the journal; a run that is killed keeps every line before."""
    directory.mkdir(parents=True, exist_ok=True)
    line = json.dumps(payload, ensure_ascii=True, separators=(",", ":"))
    with (directory / JOURNAL).open("a", encoding="ascii") as stream:
        stream.write(line + "\n")


def write_record(directory: Path, record: RunRecord) -> Path:
    """Write a run's record as `evidence.json`, whole or not at all; gives its path."""
    text = json.dumps(record.model_dump(mode="json"), ensure_ascii=True, indent=1)
    return write_atomically(directory / DOCUMENT, text + "\n")


def read_record(path: Path) -> RunRecord:
    """Read a record back.

    Raises:
        AprqaError: when the file is no evidence, or of a format this version does not know.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AprqaError(f"{path}: no readable evidence: {error}") from error
    version = data.get("schema_version", "") if isinstance(data, dict) else ""
    if str(version).split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise AprqaError(
            f"{path}: evidence format {version or 'unknown'!s}; this version reads "
            f"{SCHEMA_VERSION}: run the playbook again or use the version that wrote it"
        )
    try:
        return RunRecord.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AprqaError(f"{path}: {where}: {first['msg']}") from error


def write_atomically(path: Path, text: str) -> Path:
    """Write a text file under another name and rename it: never a half-written file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path
