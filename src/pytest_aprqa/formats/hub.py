"""Find a model's files: in this package, in a directory, in the Hugging Face cache, on the Hub."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pytest_aprqa.domain.errors import ModelUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EMBEDDED = "embedded/"
"""What the id of a model inside this package begins with."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
"""Files of which a snapshot has at least one."""
INDEX = "model.safetensors.index.json"

_MODEL_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A directory with a model's files, and where they came from."""

    directory: Path
    source: Literal["embedded", "local", "cache", "download"]
    revision: str | None
    """The commit of a snapshot from the Hub; None for other directories."""


def resolve_model(
    model_id: str,
    *,
    revision: str = "main",
    local_path: Path | None = None,
    download: bool = False,
    progress: Callable[[str], None] | None = None,
) -> ResolvedModel:
    """The files of a model; the network is used only if `download`, and only if they are not here.

    `local_path` goes before everything else. `revision` is a branch, a tag or a commit. `progress`
    is given a line now and then during a download.

    Raises:
        ModelUnavailable: the files are not here, or not all, and how to get them.
    """
    if local_path is not None:
        return _local(model_id, local_path.expanduser())
    if model_id.startswith(EMBEDDED):
        return _embedded(model_id)
    _require_plain_names(model_id, revision)
    cache = cache_directory()
    snapshot = find_snapshot(model_id, revision=revision, cache=cache)
    lacks = list(missing_files(snapshot)) if snapshot is not None else []
    if snapshot is not None and not lacks:
        return ResolvedModel(snapshot, "cache", snapshot.name)
    if download:
        from pytest_aprqa.formats.hub_download import download_snapshot

        snapshot = download_snapshot(model_id, revision=revision, cache=cache, progress=progress)
        if lacks := list(missing_files(snapshot)):
            raise ModelUnavailable(
                f"{model_id} at revision {revision}: downloaded, but has no {', '.join(lacks)}; "
                "only safetensors checkpoints can be qualified"
            )
        return ResolvedModel(snapshot, "download", snapshot.name)
    found = f"{snapshot} lacks {', '.join(lacks)}" if snapshot is not None else f"not in {cache}"
    raise ModelUnavailable(
        f"{model_id} at revision {revision} is not on this machine: {found}; "
        f"run with --aprqa-download, or `hf download {model_id} --revision {revision}`, "
        "or name a directory with model.local_path or --aprqa-model PATH"
    )


def cache_directory() -> Path:
    """The Hugging Face cache, by the environment variables huggingface_hub knows."""
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if not named:
        above = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        home = os.environ.get("HF_HOME") or str(Path(above) / "huggingface")
        named = str(Path(home) / "hub")
    return Path(os.path.expandvars(named)).expanduser()


def find_snapshot(model_id: str, *, revision: str, cache: Path) -> Path | None:
    """The snapshot of a revision in the cache, complete or not; None when there is none."""
    repository = cache / f"models--{model_id.replace('/', '--')}"
    reference = repository / "refs" / revision
    commit = revision
    if reference.is_file():
        commit = reference.read_text(encoding="utf-8").strip()
    if not _COMMIT.fullmatch(commit):
        return None
    snapshot = repository / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def missing_files(directory: Path) -> Iterator[str]:
    """The files a model needs and the directory lacks; a dangling link is a missing file."""
    if not (directory / "config.json").is_file():
        yield "config.json"
    if not any((directory / name).is_file() for name in TOKENIZER_FILES):
        yield "tokenizer.json"
    if (directory / "model.safetensors").is_file():
        return
    if not (directory / INDEX).is_file():
        yield "model.safetensors"
        return
    for shard in _shards(directory / INDEX):
        if not (directory / shard).is_file():
            yield shard


def _shards(index: Path) -> list[str]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return sorted({Path(shard).as_posix() for shard in weight_map.values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnavailable(
            f"{index}: not an index of safetensors files; delete it and download again"
        ) from error


def _local(model_id: str, directory: Path) -> ResolvedModel:
    if not directory.is_dir():
        what = "is not a directory" if directory.exists() else "does not exist"
        raise ModelUnavailable(
            f"{model_id}: {directory} {what}; expected a directory with the model's files "
            "(model.local_path or --aprqa-model)"
        )
    return ResolvedModel(directory, "local", None)


def _embedded(model_id: str) -> ResolvedModel:
    name = model_id.removeprefix(EMBEDDED)
    models = resources.files("pytest_aprqa") / "models"
    known = embedded_models()
    if name not in known:
        raise ModelUnavailable(
            f"{model_id}: no such embedded model; embedded in this package: "
            f"{', '.join(EMBEDDED + model for model in known) or 'none'}"
        )
    return ResolvedModel(Path(str(models / name)), "embedded", None)


def embedded_models() -> tuple[str, ...]:
    """The names of the models inside this package, sorted."""
    models = Path(str(resources.files("pytest_aprqa") / "models"))
    return tuple(sorted(found.parent.name for found in models.glob("*/config.json")))


def _require_plain_names(model_id: str, revision: str) -> None:
    """Names become paths below the cache: nothing that could lead out of it."""
    if not _MODEL_ID.fullmatch(model_id) or ".." in model_id or "--" in model_id:
        raise ModelUnavailable(f"{model_id!r} is not a model id; expected organisation/name")
    if not revision or revision.startswith("/") or ".." in revision or "\0" in revision:
        raise ModelUnavailable(
            f"{model_id}: {revision!r} is not a revision; expected a branch, a tag or a commit"
        )
