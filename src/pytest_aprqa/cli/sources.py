"""Where the model is that a command line names: a file, a directory, the cache, this package."""

from __future__ import annotations

from pathlib import Path

from pytest_aprqa.domain.errors import ModelUnavailable
from pytest_aprqa.formats.hub import (
    EMBEDDED,
    cache_directory,
    find_snapshot,
    missing_files,
    resolve_model,
)

ACCEPTED = (
    "a Hugging Face directory, a .safetensors, .gguf or .apr file, the id of a model in the "
    "Hugging Face cache, or embedded/aprqa-tiny"
)
"""What a command takes as a model, for its help."""
_SUFFIXES = (".safetensors", ".gguf", ".apr", ".json")


def model_path(named: str) -> Path:
    """The file or directory of a model; the network is never used.

    Raises:
        ModelUnavailable: it is not here; the message says how to get it.
    """
    path = Path(named).expanduser()
    if path.exists():
        return path
    if named.startswith(EMBEDDED):
        return resolve_model(named).directory
    if named.startswith((".", "/", "~")) or path.suffix in _SUFFIXES or named.count("/") > 1:
        raise ModelUnavailable(f"{named}: there is no such file or directory; expected {ACCEPTED}")
    cache = cache_directory()
    snapshot = find_snapshot(named, revision="main", cache=cache)
    if snapshot is None:
        raise ModelUnavailable(
            f"{named}: there is no such file or directory, and no model of that id in {cache}; "
            f"`hf download {named}` would fetch one"
        )
    lacks = list(missing_files(snapshot))
    if lacks:
        raise ModelUnavailable(
            f"{named}: {snapshot} lacks {', '.join(lacks)}; `hf download {named}` completes it"
        )
    return snapshot
