"""Reading a playbook from text, for the tests."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pytest_aprqa.domain.errors import PlaybookError
from pytest_aprqa.formats.playbook_yaml import PlaybookDocument, read_playbook


def read(text: str | bytes) -> PlaybookDocument:
    """The document that a file q.playbook.yaml with this text is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "q.playbook.yaml")
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_playbook(path)


def problems(text: str | bytes) -> list[str]:
    """The problems of the text, each without the file's name; empty if it is accepted."""
    try:
        read(text)
    except PlaybookError as error:
        return [problem.removeprefix(f"{error.path}:") for problem in error.problems]
    return []
