"""A GGUF file's header as it stands: read as far as it goes, whatever it says.

The strict reader of `formats.gguf_header` stops at the first thing that is wrong; here each gate
decides by itself what is.
"""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.encodings import ENCODINGS, fits, nbytes_of
from pytest_aprqa.formats.gguf_header import ALIGNMENT_KEY
from pytest_aprqa.formats.gguf_values import ValueReader

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_aprqa.checks.gates.lab import TargetLab
    from pytest_aprqa.formats.gguf_field import GgufField

_MAGIC = b"GGUF"
_READABLE = (2, 3)
_DEFAULT_ALIGNMENT = 32
_MOST_DIMENSIONS = 64
_PART = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Claim:
    """One tensor as the header claims it."""

    name: str
    shape: tuple[int, ...]
    """Outermost dimension first."""
    code: int
    offset: int
    """From the beginning of the data."""
    file: str

    @property
    def encoding(self) -> str | None:
        """The code's name; None for a code that nobody knows."""
        import gguf

        try:
            name = gguf.GGMLQuantizationType(self.code).name
        except ValueError:
            return None
        return name if name in ENCODINGS else None

    @property
    def nbytes(self) -> int | None:
        """Bytes by encoding and shape; None where these do not go together."""
        encoding = self.encoding
        if encoding is None or not fits(encoding, self.shape):
            return None
        return nbytes_of(encoding, self.shape)


@dataclass(frozen=True, slots=True)
class Survey:
    """One file's header."""

    file: str
    size: int
    magic: bytes
    version: int
    fields: Mapping[str, GgufField]
    twice: tuple[str, ...]
    """Keys and tensor names that occur again."""
    claims: tuple[Claim, ...]
    data: int
    """Where the data begin."""
    alignment: int
    """As the file says, or the default; 1 where what it says is no positive number."""
    broken: str = ""
    """Why the header cannot be read to its end."""

    @property
    def readable(self) -> bool:
        """Whether it is a GGUF file of a known version, read to its end."""
        return self.magic == _MAGIC and self.version in _READABLE and not self.broken


def surveys(lab: TargetLab) -> tuple[Survey, ...]:
    """The headers of the target's file, or of all parts of a split one."""
    part = _PART.fullmatch(lab.file.name)
    files = [lab.file]
    if part:
        siblings = lab.file.parent.iterdir()
        pattern = re.compile(re.escape(part[1]) + rf"-\d{{5}}-of-{part[2]}\.gguf")
        files = sorted(path for path in siblings if pattern.fullmatch(path.name))
    return tuple(_survey(path) for path in files)


def sound(lab: TargetLab) -> tuple[Survey, ...]:
    """The headers that can be read to their end: of others a gate of their own tells."""
    return tuple(found for found in lab.once(surveys) if found.readable)


def _survey(path: Path) -> Survey:
    with path.open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    magic, version = bytes(mapped[:4]), int.from_bytes(mapped[4:8], "little")
    fields: dict[str, GgufField] = {}
    claims: list[Claim] = []
    twice: list[str] = []
    broken, reader = "", ValueReader(path, mapped, position=min(8, len(mapped)))
    if magic == _MAGIC and version in _READABLE:
        try:
            _read(reader, fields, claims, twice)
        except CheckpointError as error:
            broken = str(error)
    stated: Any = fields[ALIGNMENT_KEY].value if ALIGNMENT_KEY in fields else _DEFAULT_ALIGNMENT
    alignment = stated if type(stated) is int and stated > 0 else 1
    return Survey(
        file=path.name,
        size=len(mapped),
        magic=magic,
        version=version,
        fields=fields,
        twice=tuple(twice),
        claims=tuple(claims),
        data=-(-reader.position // alignment) * alignment,
        alignment=alignment,
        broken=broken,
    )


def _read(
    reader: ValueReader, fields: dict[str, GgufField], claims: list[Claim], twice: list[str]
) -> None:
    """Keys, then tensors, into the lists: what was read stays when the rest cannot be."""
    tensor_count = reader.uint64("the number of tensors")
    field_count = reader.uint64("the number of keys")
    for _ in range(field_count):
        key = reader.text("a key's name", max_bytes=65_535)
        value = reader.field(f"key {key!r:.80}")
        if key in fields:
            twice.append(key)
        fields[key] = value
    names: set[str] = set()
    for _ in range(tensor_count):
        name = reader.text("a tensor's name", max_bytes=65_535)
        rank = reader.uint32(f"the rank of {name!r:.80}")
        if rank > _MOST_DIMENSIONS:
            raise CheckpointError(f"{reader.path}: tensor {name!r:.80} has {rank} dimensions")
        dims = tuple(reader.uint64(f"a dimension of {name!r:.80}") for _ in range(rank))
        code = reader.uint32(f"the type of {name!r:.80}")
        offset = reader.uint64(f"the offset of {name!r:.80}")
        if name in names:
            twice.append(name)
        names.add(name)
        claims.append(Claim(name, dims[::-1], code, offset, reader.path.name))
