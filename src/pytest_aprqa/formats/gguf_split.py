"""The parts that llama.cpp splits a large GGUF model into, and whether they belong together.

The names and the keys `split.*` are those of llama.cpp's gguf-split tool.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_aprqa.formats.checkpoint import CheckpointError

if TYPE_CHECKING:
    import mmap
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_aprqa.formats.gguf_field import GgufField
    from pytest_aprqa.formats.gguf_header import GgufHeader

NUMBER_KEY, COUNT_KEY, TENSORS_KEY = "split.no", "split.count", "split.tensors.count"
_PREFIX = "split."
_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Part:
    """One mapped file with its checked header."""

    path: Path
    mapped: mmap.mmap
    header: GgufHeader


@dataclass(frozen=True, slots=True)
class Split:
    """Which part of how many a file says it is, and how many tensors all of them have."""

    number: int
    """From 0."""
    count: int
    tensors: int


def split_of(part: Part) -> Split | None:
    """What a file says of its place among others; None for a model in one file.

    Raises:
        CheckpointError: when what it says is incomplete or contradicts itself.
    """
    fields = part.header.fields
    if COUNT_KEY not in fields:
        return None
    count = _natural(part.path, fields, COUNT_KEY)
    if count <= 1:
        return None
    split = Split(
        _natural(part.path, fields, NUMBER_KEY), count, _natural(part.path, fields, TENSORS_KEY)
    )
    if split.number >= count:
        raise CheckpointError(
            f"{part.path}: {NUMBER_KEY} is {split.number}; expected less than {COUNT_KEY}, {count}"
        )
    return split


def _natural(path: Path, fields: Mapping[str, GgufField], key: str) -> int:
    field = fields.get(key)
    if field is None:
        raise CheckpointError(f"{path}: {key} is missing beside other {_PREFIX}* keys")
    if type(field.value) is not int or field.value < 0:
        raise CheckpointError(
            f"{path}: {key} is {field.type} {field.value!r:.40}; expected a number from 0 on"
        )
    return field.value


def part_paths(path: Path, split: Split) -> tuple[Path, ...]:
    """Every part's path, in order, told from one part's name.

    Raises:
        CheckpointError: when the name is not the one of that part.
    """
    match = _NAME.fullmatch(path.name)
    if not match or (int(match[2]), int(match[3])) != (split.number + 1, split.count):
        raise CheckpointError(
            f"{path}: is part {split.number + 1} of {split.count} by its keys; expected the name "
            f"NAME-{split.number + 1:05}-of-{split.count:05}.gguf, to find the others by"
        )
    names = (f"{match[1]}-{number:05}-of-{match[3]}.gguf" for number in range(1, split.count + 1))
    siblings = tuple(path.with_name(name) for name in names)
    missing = next((file for file in siblings if not file.is_file()), None)
    if missing is not None:
        raise CheckpointError(
            f"{missing}: this part is missing; expected all {split.count} parts beside {path.name}"
        )
    return siblings


def joined_fields(parts: Sequence[Part]) -> dict[str, GgufField]:
    """The metadata of the whole model, which the first part has.

    Raises:
        CheckpointError: when the parts are of different models or out of order.
    """
    first = parts[0]
    if len(parts) == 1:
        return dict(first.header.fields)
    expected = split_of(first)
    assert expected is not None  # there is more than one part because the keys say so
    for number, part in enumerate(parts):
        found = split_of(part)
        if found != Split(number, expected.count, expected.tensors):
            raise CheckpointError(
                f"{part.path}: its {_PREFIX}* keys say {found}; expected part {number + 1} of "
                f"{expected.count} with {expected.tensors} tensors in all, as {first.path.name} has"
            )
        for key, field in part.header.fields.items():
            if not key.startswith(_PREFIX) and repr(first.header.fields.get(key)) != repr(field):
                raise CheckpointError(
                    f"{part.path}: {key} is not what {first.path.name} has; "
                    f"expected parts of one model"
                )
    total = sum(len(part.header.entries) for part in parts)
    if total != expected.tensors:
        raise CheckpointError(
            f"{first.path}: its parts hold {total} tensors; {TENSORS_KEY} says {expected.tensors}"
        )
    return {key: field for key, field in first.header.fields.items() if not key.startswith(_PREFIX)}
