"""Gates over the files beside the weights: are they there, and what their names say?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import ModelLab
from pytest_aprqa.checks.integrity_files import model_files
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity

if TYPE_CHECKING:
    from pathlib import Path

COMPANIONS: Family[ModelLab] = Family(
    domain="companions", place=Place.MODEL, cost=Cost.HEADERS, rung=Rung.FILE
)
TOKENIZERS = (
    ("tokenizer.json",),
    ("tokenizer.model",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("spiece.model",),
    ("tekken.json",),
)
"""Sets of files of which one makes a tokenizer."""
_POINTER = b"version https://git-lfs"
_BINARY_START = {".gguf": b"GGUF", ".apr": b"APR", ".png": b"\x89PNG", ".jpg": b"\xff\xd8"}
_TEXTS = (".txt", ".md", ".jinja", ".yaml", ".yml", ".csv")
_LARGEST_JSON = 200_000_000


@COMPANIONS.gate("F-VALID-COMPANION-001", "A tokenizer lies beside the weights.")
def tokenizer_is_there(lab: ModelLab) -> Finding:
    """In one of the forms that loaders know; config.json has a gate of its own."""
    there = {path.name for path in lab.directory.iterdir() if path.is_file()}
    for files in TOKENIZERS:
        if there.issuperset(files):
            return held(f"{' and '.join(files)} beside the weights")
    return refuted(
        f"{lab.directory}: no tokenizer among {len(there)} files; expected tokenizer.json, "
        f"tokenizer.model, or vocab.json with merges.txt",
        culprit="tokenizer.json",
    )


@COMPANIONS.gate(
    "F-VALID-POINTER-001",
    "No file is a pointer to content that was not fetched.",
    severity=Severity.P0,
)
def nothing_is_a_pointer(lab: ModelLab) -> Finding:
    """Git LFS leaves a short text in the place of a large file."""
    paths = list(model_files(lab.directory))
    for path in paths:
        if _start(path).startswith(_POINTER):
            name = path.relative_to(lab.directory).as_posix()
            return refuted(
                f"{name} is a Git LFS pointer; expected its content (`git lfs pull`)", culprit=name
            )
    return held(f"{len(paths)} files, none a pointer") if paths else refuted("there are no files")


@COMPANIONS.gate("F-VALID-TYPE-001", "Every file holds what its name says.")
def types_are_true(lab: ModelLab) -> Finding:
    """By content: safetensors, GGUF, APR, JSON and plain text."""
    judged = 0
    for path in model_files(lab.directory):
        wrong = None if _start(path).startswith(_POINTER) else _mistyped(path)
        if wrong:
            name = path.relative_to(lab.directory).as_posix()
            return refuted(f"{name} {wrong}", culprit=name)
        judged += wrong is not None
    if judged:
        return held(f"{judged} files hold what their names say")
    return refuted(f"{lab.directory}: no file of a known kind; expected weights and a config")


def _mistyped(path: Path) -> str | None:
    """What a file is not; empty where it is what its name says, None where that says nothing."""
    start, suffix = _start(path), path.suffix.lower()
    if suffix == ".safetensors":
        return "" if start[8:9] == b"{" else f"begins with {start[:8]!r}; expected safetensors"
    if suffix in _BINARY_START:
        magic = _BINARY_START[suffix]
        return "" if start.startswith(magic) else f"begins with {start[:8]!r}; expected {magic!r}"
    if suffix == ".json" and path.stat().st_size <= _LARGEST_JSON:
        try:
            json.loads(path.read_bytes().decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            return f"is no JSON: {error}"
        return ""
    if suffix in _TEXTS:
        return "holds zero bytes; expected plain text" if b"\0" in start else ""
    return None


def _start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(512)


FAMILIES = (COMPANIONS,)
