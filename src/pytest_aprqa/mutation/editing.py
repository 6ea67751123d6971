"""Edit a model directory in place: its tensors by name, its JSON files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.formats.encodings import encode
from pytest_aprqa.formats.huggingface import open_huggingface
from pytest_aprqa.formats.safetensors_writer import write_safetensors
from pytest_aprqa.formats.tensor import Tensor, tensors_of
from pytest_aprqa.mutation.operator import NotApplicable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    Array = np.ndarray[Any, Any]

LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")


def tensor_names(directory: Path) -> tuple[str, ...]:
    """The names of a directory's tensors, in the order of its files."""
    return tuple(open_huggingface(directory).tensors)


def pick(directory: Path, role: str, *, layer: int | None = None) -> str:
    """The tensor of a role (`q_proj.weight`), of a middle layer unless one is given.

    Raises:
        NotApplicable: the model has none.
    """
    names = [n for n in tensor_names(directory) if n.endswith(f".{role}") or n == role]
    if not names:
        raise NotApplicable(f"the model has no {role}")
    layered = [n for n in names if LAYER.search(n)]
    if not layered:
        return names[0]
    numbers = sorted({int(LAYER.search(n)[1]) for n in layered})  # type: ignore[index]
    wanted = numbers[len(numbers) // 2] if layer is None else numbers[layer]
    return next(n for n in layered if int(LAYER.search(n)[1]) == wanted)  # type: ignore[index]


def edit_tensors(
    directory: Path,
    edits: Mapping[str, Callable[[Array], Array]],
    *,
    drop: tuple[str, ...] = (),
    add: Mapping[str, Array] | None = None,
    shard_bytes: int = 5_000_000_000,
) -> None:
    """Write the directory's weights anew with some tensors edited, dropped or added.

    Each keeps its encoding. Values are float32 in the tensor's shape.
    """
    checkpoint = open_huggingface(directory)
    kept = [t for t in tensors_of(checkpoint) if t.name not in drop]
    made = [_edited(t, edits[t.name]) if t.name in edits else _loaded(t) for t in kept]
    common = kept[0].encoding if kept else "F32"
    for name, values in (add or {}).items():
        made.append(_of(name, common, values))
    for path in directory.glob("*.safetensors*"):
        path.unlink()
    write_safetensors(directory, made, metadata={"format": "pt"}, shard_bytes=shard_bytes)


def values_of(directory: Path, name: str) -> Array:
    """One tensor's values."""
    return next(t for t in tensors_of(open_huggingface(directory)) if t.name == name).values()


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file in place.

    Raises:
        NotApplicable: there is no such file.
    """
    if not path.is_file():
        raise NotApplicable(f"the model has no {path.name}")
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _loaded(tensor: Tensor) -> Tensor:
    """The tensor with its bytes in memory: its file is about to be written anew."""
    data = tensor.read().copy()
    return replace(tensor, read=lambda: data, done=lambda: None)


def _edited(tensor: Tensor, edit: Callable[[Array], Array]) -> Tensor:
    return _of(tensor.name, tensor.encoding, edit(tensor.values().copy()))


def _of(name: str, encoding: str, values: Array) -> Tensor:
    data = encode(encoding, values)
    return Tensor(name, encoding, tuple(values.shape), lambda: data)
