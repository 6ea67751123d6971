"""G0, files: nothing beside the weights that would run code when the model is loaded."""

from __future__ import annotations

import os
import zipfile
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.integrity_finding import IntegrityFinding
from pytest_aprqa.formats.checkpoint import CheckpointError, read_json_object

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Names under which frameworks look for pickles. `.msgpack` (Flax) and `.h5` (Keras weights) are
# data formats that run nothing, so they are let be.
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
CODE_SUFFIXES = (".py", ".pyc", ".pyd", ".so", ".dll", ".dylib")
# A checkout's own bookkeeping; hub downloads keep theirs in `.cache`.
IGNORED_DIRECTORIES = frozenset({".git", ".cache", "__pycache__"})
# Directories deeper or larger than any model's are looked at no further.
MAX_FILES = 10_000
_ZIP_MAGIC = b"PK\x03\x04"
# Protocols 0 and 1 have no magic number; a dictionary, a list, or what attacks call, spell these.
_OLD_PICKLES = (
    *(b"(dp0", b"(lp0", b"}q\x00", b"]q\x00"),
    *(b"cos\n", b"cposix\n", b"c__builtin__\n", b"cbuiltins\n"),
)
# torch.save before 1.6 writes this number (0x1950a86a20f9469cfc6c) as its first pickle.
_LEGACY_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def file_findings(directory: Path) -> tuple[list[IntegrityFinding], list[str]]:
    """Pickles and code under the directory, by name and by content; what was not looked at."""
    findings: list[IntegrityFinding] = []
    for number, path in enumerate(model_files(directory)):
        if number == MAX_FILES:
            return findings, [f"{directory}: files after the first {MAX_FILES}"]
        name = path.relative_to(directory).as_posix()
        if path.suffix.lower() in CODE_SUFFIXES:
            message = f"{name}: code beside the weights; expected a model that needs none"
            findings.append(IntegrityFinding("code", name, message))
        elif kind := _pickle_kind(path):
            message = (
                f"{name}: {kind}, which can run code when loaded; expected only safetensors weights"
            )
            findings.append(IntegrityFinding("pickle", name, message))
        elif path.suffix == ".json":
            findings += _remote_code(path, name)
    return findings, []


def model_files(directory: Path) -> Iterator[Path]:
    """Every file under a directory, its bookkeeping left out, in the order of their names."""
    for root, directories, names in os.walk(directory):
        directories[:] = sorted(set(directories) - IGNORED_DIRECTORIES)
        for name in sorted(names):
            path = directory / root / name
            if path.is_file():
                yield path


def _pickle_kind(path: Path) -> str | None:
    """What kind of pickle a file is by its content, else by its name; None if it is none."""
    try:
        with path.open("rb") as stream:
            head = stream.read(64)
    except OSError:
        return None
    if head.startswith(_ZIP_MAGIC) and _zip_holds_pickle(path):
        return "a zip archive with a pickle (torch.save)"
    if _looks_pickled(head):
        return "a Python pickle"
    if path.suffix.lower() in PICKLE_SUFFIXES:
        return "a file with a pickle's name"
    return None


def _looks_pickled(head: bytes) -> bool:
    if head.startswith(_LEGACY_TORCH) or _LEGACY_TORCH in head[:16]:
        return True
    # PROTO 2-5, then FRAME (protocol 4 and 5) or the first opcode of an object.
    if len(head) > 2 and head[0] == 0x80 and head[1] in (2, 3, 4, 5):
        return head[2:3] == b"\x95" if head[1] >= 4 else head[2:3] in b"}](c)\x8aXUK\x8cG"
    return head.startswith(_OLD_PICKLES)


def _zip_holds_pickle(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith((".pkl", ".pickle")) for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def _remote_code(path: Path, name: str) -> list[IntegrityFinding]:
    """`auto_map` anywhere in a configuration: it names Python code to fetch and run."""
    if path.name in ("tokenizer.json", "vocab.json") or path.name.endswith(".index.json"):
        return []  # large, and no loader looks for code there
    try:
        content = read_json_object(path)
    except CheckpointError:
        return []  # a broken configuration is reported by the check that needs it
    places = list(_auto_maps(content, "", depth=0))
    return [
        IntegrityFinding(
            "remote-code", name, f"{name}: {place} names code to run; expected none: {value!r:.120}"
        )
        for place, value in places
    ]


def _auto_maps(node: Any, place: str, *, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > 50:  # deeper than any configuration; the parser's own limit is far above
        return
    if isinstance(node, dict):
        for key, value in node.items():
            here = f"{place}.{key}" if place else str(key)
            if key == "auto_map":
                yield here, value
            yield from _auto_maps(value, here, depth=depth + 1)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _auto_maps(value, f"{place}[{index}]", depth=depth + 1)
