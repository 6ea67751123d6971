"""The Hugging Face directory: one `model.safetensors`, or the shards that an index names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.model import Format
from pytest_aprqa.formats.checkpoint import CheckpointError, TensorInfo, read_json_object
from pytest_aprqa.formats.safetensors import SafetensorsFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")


@dataclass(frozen=True, slots=True)
class HuggingFaceCheckpoint:
    """The tensors of `model.safetensors`, or of the shards that its index names."""

    path: Path
    files: tuple[SafetensorsFile, ...]
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, Any]

    @property
    def format(self) -> Format:
        """SafeTensors."""
        return Format.SAFETENSORS

    def bytes_of(self, name: str) -> np.ndarray[Any, Any]:
        """The tensor's bytes as stored: a flat read-only uint8 view of the mapped file."""
        return self._holder(name).bytes_of(name)

    def release(self, name: str) -> None:
        """Let the system take the tensor's pages back; the next look at it reads them again."""
        self._holder(name).release(name)

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


def open_huggingface(directory: Path) -> HuggingFaceCheckpoint:
    """The checkpoint in a Hugging Face directory; every problem with it in one error."""
    checkpoint, problems = survey_huggingface(directory)
    if problems:
        raise CheckpointError("\n".join(problems))
    return checkpoint


def survey_huggingface(directory: Path) -> tuple[HuggingFaceCheckpoint, tuple[str, ...]]:
    """What can be read of the weights, and one line for each thing that is wrong with them."""
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
