"""The sidecar that says what a converted file was made from, by what, and into what."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.portable import TOKENIZER_FILES
from pytest_aprqa.formats.atomic import atomic_file
from pytest_aprqa.formats.digest import file_hashes, sha256_of
from pytest_aprqa.formats.gguf_file import GgufFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_aprqa.domain.model import Format, Quantization

SCHEMA = "aprqa-provenance-1"
SIDECAR = "provenance.json"
"""Its name in a directory; beside a file it is the file's name and this."""
RECIPE = 1
"""Counts up whenever the same source would be converted to other bytes than before."""
_MAKERS = ("pytest-aprqa", "gguf", "cyllama")


def sidecar_of(path: Path) -> Path:
    """Where the provenance of a converted file or directory lies."""
    return path / SIDECAR if path.is_dir() else path.with_name(f"{path.name}.{SIDECAR}")


def content_of(path: Path) -> dict[str, str]:
    """SHA-256 of each file that makes the model at `path`, by name."""
    if path.is_dir():
        named = file_hashes(path)
        others = [n for n in TOKENIZER_FILES if n not in named and (path / n).is_file()]
        return named | {name: sha256_of(path / name) for name in others}
    parts = GgufFile.open(path).files if path.suffix == ".gguf" else (path,)
    return {part.name: sha256_of(part) for part in parts}


def provenance(
    source: Mapping[str, str],
    format_: Format,
    quantization: Quantization | None,
) -> dict[str, Any]:
    """What determines a conversion's bytes: equal provenance, equal result."""
    return {
        "schema": SCHEMA,
        "recipe": RECIPE,
        "source": dict(sorted(source.items())),
        "format": format_.value,
        "quantization": None if quantization is None else quantization.value,
        "made_by": {name: version(name) for name in _MAKERS},
    }


def write_sidecar(
    path: Path, facts: Mapping[str, Any], result: Mapping[str, str], *, sidecar: Path | None = None
) -> None:
    """Write the provenance of the file or directory at `path`, with its digests."""
    text = json.dumps({**facts, "result": dict(sorted(result.items()))}, indent=1)
    with atomic_file(sidecar or sidecar_of(path)) as draft:
        draft.write_text(text + "\n", encoding="utf-8")
