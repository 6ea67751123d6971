"""What every checkpoint format offers, and the Hugging Face directory that offers it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from pytest_aprqa.domain.errors import AprqaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np

    from pytest_aprqa.formats.safetensors import SafetensorsFile

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
# The largest published tokenizer.json is about 35 MB (256 000 tokens with their merges).
JSON_MAX_BYTES = 200_000_000
# One float32 chunk of 4 MiB stays in the second-level cache of current processors.
CHUNK_ELEMENTS = 1 << 20
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")


class CheckpointError(AprqaError):
    """A model file cannot be read as what it claims to be; one line `file: what, expected`."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor as the file describes it, before any of its bytes are read."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    file: Path


class Checkpoint(Protocol):
    """Named tensors that are mapped, not loaded; the view that every format's reader gives."""

    @property
    def path(self) -> Path:
        """The file or directory that was opened."""
        ...

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """What the files hold, by name, in the order of the files."""
        ...

    @property
    def metadata(self) -> Mapping[str, object]:
        """What the format itself records beside the tensors."""
        ...

    def raw(self, name: str) -> np.ndarray[Any, Any]:
        """The tensor's stored values as a read-only view (BF16 as uint16, F8 as uint8)."""
        ...

    def float32_chunks(self, name: str) -> Iterator[np.ndarray[Any, Any]]:
        """The tensor's values as flat float32 pieces of bounded size, in storage order."""
        ...


@dataclass(frozen=True, slots=True)
class HuggingFaceCheckpoint:
    """The tensors of `model.safetensors`, or of the shards that its index names."""

    path: Path
    files: tuple[SafetensorsFile, ...]
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, object]

    def raw(self, name: str) -> np.ndarray[Any, Any]:
        """The tensor's stored values as a read-only view (BF16 as uint16, F8 as uint8)."""
        return self._holder(name).raw(name)

    def float32_chunks(self, name: str) -> Iterator[np.ndarray[Any, Any]]:
        """The tensor's values as flat float32 pieces of bounded size, in storage order."""
        return self._holder(name).float32_chunks(name)

    def _holder(self, name: str) -> SafetensorsFile:
        for file in self.files:
            if name in file.tensors:
                return file
        raise CheckpointError(f"{self.path}: there is no tensor {name!r}")


def open_checkpoint(directory: Path) -> HuggingFaceCheckpoint:
    """The checkpoint in a Hugging Face directory; every problem with it in one error."""
    checkpoint, problems = survey_checkpoint(directory)
    if problems:
        raise CheckpointError("\n".join(problems))
    return checkpoint


def survey_checkpoint(directory: Path) -> tuple[HuggingFaceCheckpoint, tuple[str, ...]]:
    """What can be read of the weights, and one line for each thing that is wrong with them."""
    from pytest_aprqa.formats.safetensors import SafetensorsFile  # it needs this module's words

    weight_map, problems = _weight_map(directory)
    files: list[SafetensorsFile] = []
    for shard in [SINGLE_FILE] if weight_map is None else sorted(set(weight_map.values())):
        try:
            files.append(SafetensorsFile.open(contained_file(directory, shard)))
        except CheckpointError as error:
            problems.append(str(error))
    if weight_map is not None:
        problems += _index_problems(directory, weight_map, files)
    tensors = {name: info for file in files for name, info in file.tensors.items()}
    metadata = {key: value for file in files for key, value in file.metadata.items()}
    checkpoint = HuggingFaceCheckpoint(
        directory, tuple(files), MappingProxyType(tensors), MappingProxyType(metadata)
    )
    return checkpoint, tuple(problems)


def _weight_map(directory: Path) -> tuple[dict[str, str] | None, list[str]]:
    """Tensor name to shard name (None: a single file), and what is wrong with the choice."""
    index, single = directory / INDEX_FILE, directory / SINGLE_FILE
    if not index.is_file():
        if single.is_file() or single.is_symlink():
            return None, []
        return {}, [
            f"{directory}: there is neither {SINGLE_FILE} nor {INDEX_FILE}; expected one of them"
        ]
    problems = []
    if single.is_file():
        problems.append(
            f"{index}: {SINGLE_FILE} lies beside the index; expected one of them, "
            f"as loaders differ in which they read"
        )
    try:
        weight_map = read_json_object(index).get("weight_map")
    except CheckpointError as error:
        return {}, [*problems, str(error)]
    if not isinstance(weight_map, dict) or not weight_map:
        return {}, [*problems, f"{index}: weight_map is missing or empty; expected name to shard"]
    wrong = [name for name, shard in weight_map.items() if not isinstance(shard, str)]
    if wrong:
        return {}, [*problems, f"{index}: weight_map[{wrong[0]!r}] is no text; expected a shard"]
    return {str(name): str(shard) for name, shard in weight_map.items()}, problems


def _index_problems(
    directory: Path, weight_map: Mapping[str, str], files: list[SafetensorsFile]
) -> list[str]:
    """Where the index and the shards disagree, in either direction."""
    index = directory / INDEX_FILE
    problems = []
    homes: dict[str, str] = {}
    for file in files:
        shard = file.path.name
        for name in file.tensors:
            if name in homes:
                problems.append(f"{index}: tensor {name} is in {homes[name]} and again in {shard}")
            elif name not in weight_map:
                problems.append(f"{index}: tensor {name} of {shard} is not in the weight_map")
            homes.setdefault(name, shard)
    read = {file.path.name for file in files}
    for name, shard in weight_map.items():
        if shard in read and homes.get(name) != shard:
            there = f"it is in {homes[name]}" if name in homes else "it is in no shard"
            problems.append(f"{index}: tensor {name} should be in {shard}, but {there}")
    named = set(weight_map.values())
    if named:
        problems += [
            f"{index}: shard {path.name} lies beside the index, which does not name it"
            for path in sorted(directory.glob("*.safetensors"))
            if _SHARD.fullmatch(path.name) and path.name not in named
        ]
    return problems


def contained_file(directory: Path, name: str) -> Path:
    """The path of a file directly or deeper inside `directory`; a name that leads out is refused.

    Hub caches are let out to their own `blobs` directory: they link snapshots/REV/FILE there.
    """
    where = f"{directory}: weights file {name!r}"
    if not name or "\\" in name or "\0" in name or name.startswith("/") or ".." in name.split("/"):
        raise CheckpointError(f"{where} leads out of the model's directory; expected a plain name")
    path = directory / name
    home = directory.resolve()
    allowed = [home]
    if home.parent.name == "snapshots":
        allowed.append(home.parent.parent / "blobs")
    real = path.resolve()
    if not any(real.is_relative_to(root) for root in allowed):
        raise CheckpointError(f"{where} is a link to {real}, outside of the model's directory")
    if not path.is_file():
        raise CheckpointError(f"{where} does not exist; expected it beside config.json")
    return path


def read_json_object(path: Path, *, max_bytes: int = JSON_MAX_BYTES) -> dict[str, Any]:
    """The JSON object in a file of bounded size."""
    if not path.is_file():
        raise CheckpointError(f"{path}: the file does not exist; expected a JSON object")
    size = path.stat().st_size
    if size > max_bytes:
        raise CheckpointError(f"{path}: {size} bytes; expected JSON of at most {max_bytes} bytes")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_json_object(data, where=str(path))


def parse_json_object(data: bytes, *, where: str, unique_keys: bool = False) -> dict[str, Any]:
    """The JSON object in bytes that nobody vouches for; `where` begins the error's message."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise CheckpointError(f"{where}: key {key!r:.80} occurs twice; expected it once")
            found[key] = value
        return found

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique if unique_keys else None)
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{where}: not UTF-8 at byte {error.start}; expected a JSON object"
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: not JSON ({error}); expected a JSON object") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: holds a JSON {type(value).__name__}; expected an object")
    return value
