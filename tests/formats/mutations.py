"""Thousands of damaged and doctored model files, made the same way every time.

Run as a program it opens each of them under a limit on memory and time and prints what came of it:
`python -m tests.formats.mutations FORMAT DIRECTORY`.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import resource
import signal
import struct
import sys
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_aprqa.domain.model import Format
from pytest_aprqa.formats.apr_file import AprFile, verify_footer
from pytest_aprqa.formats.apr_header import CODES, AprEntry, AprHeader, aligned
from pytest_aprqa.formats.checkpoint import Checkpoint, CheckpointError
from pytest_aprqa.formats.encodings import ENCODINGS, decode, fits, nbytes_of
from pytest_aprqa.formats.safetensors import SafetensorsFile

SPARE_BYTES = 100_000_000
SECONDS = 2.0  # of processor time: other work on the machine does not count
NUMBERS = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**60, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
JUNK = (b"\0", b"\0" * 64, b"junk", b"\xff" * 100, b"GGUF" * 20, b"APR\0" * 99)
BAD_TEXT = (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x00", b"\n", b'"', b"\\", b"{", b"]")
DEPTH = 100_000

Mutation = tuple[str, bytes]
"""What was done, and the file."""


def unchanged(data: bytes) -> bytes:
    """No repair."""
    return data


@dataclass(frozen=True)
class Base:
    """A good file: where its header ends, where its integers lie, and what else can be done."""

    data: bytes
    header: int
    fields: tuple[tuple[int, int], ...]
    """Offset and width of each integer."""
    repair: Callable[[bytes], bytes] = unchanged
    """Makes lengths or checksums right again, so that damage is met further inside."""
    doctored: tuple[Mutation, ...] = ()


@dataclass
class Layout:
    """Bytes being put together, with the places of their integers."""

    data: bytearray = field(default_factory=bytearray)
    fields: list[tuple[int, int]] = field(default_factory=list)

    def number(self, form: str, *values: int) -> None:
        for value in values:
            self.fields.append((len(self.data), struct.calcsize(form)))
            self.data += struct.pack(form, value)

    def put(self, data: bytes) -> None:
        self.data += data

    def align(self, multiple: int) -> None:
        self.data += bytes(-len(self.data) % multiple)


def mutations(base: Base, seed: int = 3) -> Iterator[Mutation]:
    """Every mutation of a good file: the systematic ones, the doctored ones, then accidents."""
    data, end = base.data, base.header
    for place, bit in itertools.product(range(end), range(8)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << bit
        yield "flip", bytes(flipped)
        if (repaired := base.repair(bytes(flipped))) != flipped:
            yield "flip, repaired", repaired
    for length in (*range(end), *range(end, len(data), 37), len(data) - 1):
        yield "truncation", data[:length]
    for place, width in base.fields:
        old = int.from_bytes(data[place : place + width], "little")
        for number in {*NUMBERS, old + 1, old - 1, old * 2, len(data), ~old}:
            value = (number % 2 ** (8 * width)).to_bytes(width, "little")
            changed = data[:place] + value + data[place + width :]
            yield "number", changed
            yield "number, repaired", base.repair(changed)
    for junk in JUNK:
        yield "junk behind", data + junk
        yield "junk before", junk + data
        yield "junk within", base.repair(data[:end] + junk + data[end:])
    yield from (("swapped sections", file) for file in _swapped(data, end))
    yield from base.doctored
    rng = random.Random(seed)
    for _ in range(1500):
        yield "accident", _accident(data, end, rng)
        yield "accident, repaired", base.repair(_accident(data, end, rng))


def _swapped(data: bytes, end: int) -> Iterator[bytes]:
    yield data[end:] + data[:end]
    for step in (8, 64, 100):
        for start in range(0, end - 2 * step, step):
            one, two = data[start : start + step], data[start + step : start + 2 * step]
            yield data[:start] + two + one + data[start + 2 * step :]


def _accident(data: bytes, end: int, rng: random.Random) -> bytes:
    """One to four accidents in the header."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(min(end, len(changed)))
        length = rng.randrange(1, 40)
        match rng.randrange(6):
            case 0:
                changed[place] = rng.randrange(256)
            case 1:
                changed[place : place + 1] = rng.choice(BAD_TEXT)
            case 2:
                del changed[place : place + length]
            case 3:
                changed[place:place] = changed[place : place + length]
            case 4:
                other = rng.randrange(end)
                changed[place : place + length] = changed[other : other + length]
            case _:
                changed[place : place + 8] = struct.pack("<Q", rng.choice(NUMBERS))
    return bytes(changed)


# --- safetensors ---------------------------------------------------------------------------------

_SAFETENSORS: dict[str, Any] = {
    "__metadata__": {"format": "pt", "note": "naïve 😀"},
    "a.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b.weight": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
    "c": {"dtype": "I8", "shape": [], "data_offsets": [32, 33]},
    "d": {"dtype": "F64", "shape": [0, 5], "data_offsets": [33, 33]},
    "e": {"dtype": "F4", "shape": [3, 2], "data_offsets": [33, 36]},
    "f": {"dtype": "F64", "shape": [1], "data_offsets": [36, 44]},
}


def safetensors_base() -> Base:
    """Tensors of six types, some of them empty, packed or scalar."""
    text = json.dumps(_SAFETENSORS, ensure_ascii=False, separators=(",", ":")).encode()
    tail = bytes(range(40, 84))

    def file(header: bytes) -> bytes:
        return struct.pack("<Q", len(header)) + header + tail

    def repair(data: bytes) -> bytes:
        end = max(len(data) - len(tail), 8)
        return struct.pack("<Q", end - 8) + data[8:]

    numbers = [*map(str, NUMBERS), "-1", "1.0", "1e9", "true", "null", "9" * 5000, "[1]", '"1"']
    changed = [
        ("number in the text", file(text[: m.start()] + number.encode() + text[m.end() :]))
        for m in re.finditer(rb"\d+(?=[,\]])", text)
        for number in numbers
    ]
    shapes = ([0, 2**62], [0, 2**63 - 1, 4], [2**63 - 1, 2], [1] * 33, [0] * 32, [2**64])
    entries: list[Any] = [
        {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}
        for dtype in ("F32", "F4", "BF16", "F8_E4M3", "C64", "X")
        for shape in shapes
        for size in (0, 1, 44)
    ]
    doctored = [("dtype or shape", file(json.dumps({"x": entry}).encode())) for entry in entries]
    doctored += [
        ("bad text", file(text.replace(old, new)))
        for old in (b"a.weight", b"F32", b"dtype", b"note", b"__metadata__")
        for new in (*BAD_TEXT, b"", b"\\ud800", b"\\u0000", b"\\n", b"b.weight", b"c")
    ]
    deep = (b"[" * DEPTH, b'{"a":' * DEPTH, b'{"a":' + b"[" * 900 + b"]" * 900 + b"}", b"{" * 999)
    doctored += [("deep", file(value)) for value in deep]
    wide = (b'{"a":[' + b"[]," * 300_000 + b"[]]}", b'{"a":' + b"1" * 100_000 + b"}")
    doctored += [("wide", file(value)) for value in wide]
    good = file(text)
    return Base(good, 8 + len(text), ((0, 8),), repair, (*changed, *doctored))


# --- APR -----------------------------------------------------------------------------------------

_APR_METADATA = {
    "model_type": "Llama",
    "architecture": "llama",
    "hidden_size": 256,
    "rope_theta": 1e4,
    "license": None,
    "tokenizer.vocabulary": ["<unk>", "▁a", "😀"],
    "tokenizer.scores": [0.0, -1.5, -2.0],
}
_APR_TENSORS = {
    "a": ("F32", (2, 3)),
    "b": ("BF16", (4,)),
    "c": ("Q4_K", (1, 256)),
    "d": ("Q6_K", (256,)),
    "e": ("APR_Q4", (3, 11)),
    "f": ("APR_Q8", (5,)),
    "g": ("F64", ()),
}


def apr_file(text: bytes, entries: list[AprEntry], tail: bytes, **changed: Any) -> Layout:
    """An APR file of these parts, header and checksums right."""
    index = Layout()
    for entry in entries:
        name = entry.name.encode()
        index.number("<H", len(name))
        index.put(name)
        index.number("<B", entry.code, len(entry.shape))
        index.number("<Q", *entry.shape, entry.offset, entry.nbytes)
    start = 64 + aligned(len(text))
    fields = {"index_offset": start, "data_offset": start + aligned(len(index.data)), **changed}
    layout = Layout(bytearray(AprHeader(len(entries), len(text), **fields).pack()))
    layout.fields = [(4, 1), (5, 1), (6, 2), (8, 4), (12, 8), (20, 4), (24, 8), (32, 8), (40, 4)]
    layout.put(text)
    layout.align(64)
    layout.fields += [(start + place, width) for place, width in index.fields]
    layout.put(bytes(index.data))
    layout.align(64)
    layout.put(tail)
    layout.put(zlib.crc32(layout.data).to_bytes(4, "little"))
    return layout


def apr_base() -> Base:
    """A tensor of each kind of encoding, and a small vocabulary."""
    entries, tail = [], bytearray()
    rng = random.Random(1)
    for name, (encoding, shape) in _APR_TENSORS.items():
        size = nbytes_of(encoding, shape)
        entries.append(AprEntry(name, CODES[encoding], shape, len(tail), size))
        tail += rng.randbytes(size) + bytes(-size % 64)
    text = json.dumps(_APR_METADATA, ensure_ascii=False, separators=(",", ":")).encode()
    good = apr_file(text, entries, bytes(tail))

    def repair(data: bytes) -> bytes:
        checksum = zlib.crc32(data[44:64], zlib.crc32(data[:40]))
        return data[:40] + checksum.to_bytes(4, "little") + data[44:] if len(data) > 64 else data

    def one(kind: str, entry: AprEntry, *more: AprEntry) -> Mutation:
        return kind, bytes(apr_file(text, [entry, *more], bytes(tail)).data)

    first = entries[0]
    doctored = [
        one("dtype or shape", AprEntry("x", code, shape, 0, size))
        for code in range(256)
        for shape, size in (((2, 3), 24), ((0, 2**62), 0), ((2**63 - 1, 2), 24), ((2, 40), 288))
    ]
    doctored += [one("name", AprEntry(name, 0, (6,), 0, 24)) for name in ("", "a\n", "n" * 300)]
    doctored += [
        one("overlap", first, AprEntry("z", 0, (6,), offset, 24)) for offset in range(0, 64, 4)
    ]
    doctored += [one("duplicate", first, first), one("order", entries[1], first)]
    doctored.append(one("dtype or shape", AprEntry("x", 0, (1,) * 200, 0, 4)))
    texts = [b'{"a":%s}' % value for value in (b"[" * DEPTH, b'{"a":' * DEPTH, b"NaN", b"1e999")]
    texts += [b'{"a":[' + b"[]," * 300_000 + b"[]]}", b'{"a":%s}' % (b"9" * 5000), b"[]", b""]
    texts += [text.replace(b"Llama", bad) for bad in BAD_TEXT]
    texts += [text.replace(b"license", b"model_type")]
    doctored += [("metadata", bytes(apr_file(t, entries, bytes(tail)).data)) for t in texts]
    header = len(good.data) - len(tail) - 4
    return Base(bytes(good.data), header, tuple(good.fields), repair, tuple(doctored))


# --- running them --------------------------------------------------------------------------------


class TooLong(BaseException):
    """A file kept its reader busy for longer than it may."""


def outcome(path: Path, opened: Callable[[Path], Checkpoint]) -> str:
    """`read` or `refused`; anything else is what a reader must not do, in words."""
    try:
        checkpoint = opened(path)
        total = 0
        for name, info in checkpoint.tensors.items():
            total += info.nbytes
            data = checkpoint.bytes_of(name)
            if data.size != info.nbytes or (data.size and int(data.max()) > 255):
                return f"{name}: {data.size} bytes, not {info.nbytes}"
        if total > path.stat().st_size:
            return f"tensors of {total} bytes in all"
        for name in checkpoint.tensors:
            _values(checkpoint, name)
    except CheckpointError as error:
        message = str(error)
        if str(path) not in message or "\n" in message:
            return f"unclear: {message!r:.300}"
        return "refused"
    except TooLong:
        return f"still busy after {SECONDS} s of work"
    except BaseException as error:
        return f"{type(error).__name__}: {error!s:.300}"
    return "read"


def _values(checkpoint: Checkpoint, name: str) -> None:
    """The first values, and where that is no long work all of them in the tensor's shape."""
    info = checkpoint.tensors[name]
    try:
        next(iter(checkpoint.float32_chunks(name)), None)
    except CheckpointError as error:  # a type without float32 values: said clearly, too
        if str(checkpoint.path) not in str(error) or "\n" in str(error):
            raise
    else:
        if info.dtype in ENCODINGS and fits(info.dtype, info.shape) and info.nbytes < 10_000:
            values = decode(info.dtype, checkpoint.bytes_of(name), info.shape)
            if values.shape != info.shape:
                raise AssertionError(f"{name}: {values.shape} instead of {info.shape}")
    checkpoint.release(name)


def open_apr(path: Path) -> Checkpoint:
    """The file, its footer looked at too."""
    file = AprFile.open(path)
    try:
        verify_footer(path)
    except CheckpointError as error:
        if "the checksum at the end is" not in str(error):
            raise
    return file


def open_gguf(path: Path) -> Checkpoint:
    """The file as GGUF."""
    from pytest_aprqa.formats.gguf_file import GgufFile

    return GgufFile.open(path)


def base_of(form: Format) -> tuple[Base, Callable[[Path], Checkpoint]]:
    """A format's good file and its reader."""
    if form is Format.SAFETENSORS:
        return safetensors_base(), SafetensorsFile.open
    if form is Format.APR:
        return apr_base(), open_apr
    from tests.formats.mutations_gguf import gguf_base

    return gguf_base(), open_gguf


def run(form: Format, directory: Path) -> dict[str, Any]:
    """Open every mutation within the limits; counts, and the first failures."""

    def too_long(*_: Any) -> None:
        raise TooLong

    base, opened = base_of(form)
    path = directory / f"m.{form}"
    path.write_bytes(base.data)
    signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, 10 * SECONDS)  # libraries are loaded by the way
    good = outcome(path, opened)
    signal.setitimer(signal.ITIMER_PROF, 0)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    kinds, outcomes, failures = Counter[str](), Counter[str](), list[str]()
    began, hard = time.process_time(), resource.getrlimit(resource.RLIMIT_AS)[1]
    for number, (kind, data) in enumerate(mutations(base)):
        path.write_bytes(data)
        allowed = mapped + len(data) + SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        found = outcome(path, opened)
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        kinds[kind] += 1
        outcomes[found if found in ("read", "refused") else "failed"] += 1
        if found not in ("read", "refused"):
            failures.append(f"{number} ({kind}): {found}")
    return {
        "good": good,
        "kinds": kinds,
        "outcomes": outcomes,
        "failures": failures[:20],
        "seconds": round(time.process_time() - began, 2),
    }


if __name__ == "__main__":
    warnings.simplefilter("error")
    print(json.dumps(run(Format(sys.argv[1]), Path(sys.argv[2]))))  # noqa: T201
