"""Conversions kept by content: the same source is never converted the same way twice.

An entry's name is the digest of its provenance: the source's file digests, the format, the
quantization and the versions of what converts. An entry whose own digests no longer hold is made
again, so a damaged file is never handed out.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_aprqa.conversion.convert import (
    Conversion,
    convert,
    format_by_name,
    require_free,
    size_of,
)
from pytest_aprqa.conversion.impossible import why_impossible
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.conversion.provenance import SIDECAR, content_of, provenance, write_sidecar
from pytest_aprqa.conversion.stored_config import gguf_remarks
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.model import Format
from pytest_aprqa.formats.atomic import UnwritableError, atomic_directory, atomic_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_aprqa.domain.model import Quantization
    from pytest_aprqa.formats.tensor import Progress

DIRECTORY_VARIABLE = "APRQA_CACHE"
"""Environment variable that names the cache's directory."""
_NAMES = {Format.GGUF: "model.gguf", Format.APR: "model.apr", Format.SAFETENSORS: "model"}


def cache_directory() -> Path:
    """Where conversions are kept: `APRQA_CACHE`, or pytest-aprqa in the user's cache directory."""
    if named := os.environ.get(DIRECTORY_VARIABLE):
        return Path(named).expanduser()
    above = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(above).expanduser() / "pytest-aprqa"


def converted(
    source: Path,
    format_: Format,
    quantization: Quantization | None = None,
    *,
    progress: Progress | None = None,
) -> Conversion:
    """The model at `source` in another format, from the cache or newly made in it.

    Two processes that ask for the same conversion make it once: the second waits for the first.

    Raises:
        ConversionError, CheckpointError: as `convert`.
    """
    began = time.perf_counter()
    if problem := why_impossible(format_, quantization):
        raise ConversionError(f"{source}: {problem}")
    facts = provenance(known_content(source), format_, quantization)
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    entry = cache_directory() / "conversions" / key
    made = entry / _NAMES[format_]
    with _locked(entry):
        cached = _is_whole(made)
        if not cached:
            convert(source, made, quantization=quantization, replace=True, progress=progress)
            write_sidecar(made, facts, known_content(made), sidecar=entry / SIDECAR)
    seconds = time.perf_counter() - began
    remarks = tuple(gguf_remarks(made))
    return Conversion(source, made, format_, quantization, cached, seconds, size_of(made), remarks)


@contextmanager
def _locked(entry: Path) -> Iterator[None]:
    """An entry's directory, made if need be, for this process alone."""
    from filelock import FileLock

    lock = FileLock(entry / "lock")
    try:
        entry.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        told = f"{error.strerror}; {DIRECTORY_VARIABLE} names another place"
        raise UnwritableError(entry, told) from error
    try:
        yield
    finally:
        lock.release()


def convert_through_cache(
    source: Path,
    destination: Path,
    *,
    quantization: Quantization | None = None,
    replace: bool = False,
    use_cache: bool = True,
    progress: Progress | None = None,
) -> Conversion:
    """`convert`, with the result kept in the cache and its provenance beside the destination.

    Weights are links to the cache's files where both are on one file system, else copies.

    Raises:
        ConversionError, CheckpointError: as `convert`.
    """
    format_ = format_by_name(destination)
    if problem := why_impossible(format_, quantization):
        raise ConversionError(f"{destination}: {problem}")
    require_free(source, destination, replace=replace)
    # Before the work, as the source may lie where the destination will.
    facts = provenance(known_content(source), format_, quantization)
    if not use_cache:
        conversion = convert(
            source, destination, quantization=quantization, replace=replace, progress=progress
        )
        write_sidecar(destination, facts, known_content(destination))
        return conversion
    found = converted(source, format_, quantization, progress=progress)
    _place(found.destination, destination, replace=replace)
    if destination.is_file():
        (digest,) = known_content(found.destination).values()  # known already; the same bytes
        write_sidecar(destination, facts, {destination.name: digest})
    return Conversion(
        source,
        destination,
        format_,
        quantization,
        found.cached,
        found.seconds,
        size_of(destination),
        found.remarks,
    )


def known_content(path: Path) -> dict[str, str]:
    """SHA-256 of the files that make a model, worked out once in a process while none changes."""
    # Links stay: in a hub cache they have the names by which the parts of a split file are found.
    return dict(_content(path.absolute(), _state(path)))


@lru_cache(maxsize=64)
def _content(path: Path, state: tuple[tuple[str, int, int], ...]) -> Mapping[str, str]:
    return content_of(path)


def _state(path: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when a file does."""
    files = path.glob("**/*") if path.is_dir() else path.parent.glob(f"*{path.suffix}")
    stats = [(str(file), file.stat()) for file in sorted(files) if file.is_file()]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _is_whole(made: Path) -> bool:
    """Whether an entry is there with the digests that were written down when it was made."""
    try:
        sidecar = made.parent / SIDECAR
        written = json.loads(sidecar.read_text(encoding="utf-8"))["result"]
        return made.exists() and bool(written == known_content(made))
    except (OSError, ValueError, KeyError, TypeError, AprqaError):
        return False  # not even its header can be read


def _place(made: Path, destination: Path, *, replace: bool) -> None:
    if made.is_file():
        with atomic_file(destination) as draft:
            _link(made, draft)
        return
    with atomic_directory(destination, replace=replace) as draft:
        for file in sorted(made.iterdir()):
            # People edit a config where it lies, and would change it in every other copy.
            place = _link if file.suffix == ".safetensors" else shutil.copyfile
            place(file, draft / file.name)
        shutil.copyfile(made.parent / SIDECAR, draft / SIDECAR)


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
